package parse_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/projections/parse"
)

// keeping reads pods that share their labels and containers.
func keeping() *parse.Reader {
	return parse.Keeping(reflect.TypeFor[map[string]string](), reflect.TypeFor[[]core.Container]())
}

// read reads a pod, twice from the same memory, so that the second shares the parts of the
// first, and overwrites that memory.
func read(t *testing.T, r *parse.Reader, doc string) (pod, again *core.Pod) {
	t.Helper()
	pod, again = new(core.Pod), new(core.Pod)
	raw := []byte(doc)
	if !r.Read(raw, pod) || !r.Read(raw, again) {
		t.Fatalf("%s is not read", doc)
	}
	copy(raw, bytes.Repeat([]byte("x"), len(raw)))
	return pod, again
}

// What is kept is what the document said, and has none of its memory.
func TestKeptOutlivesItsDocument(t *testing.T) {
	long := strings.Repeat("l", 100)
	for _, doc := range []string{
		`{"metadata":{"labels":{"a":"b","c":"` + long + `"},"name":"web-1"},"spec":{"containers":[{"image":"web:1","name":"` + long + `"}],"nodeName":"n1"}}`,
		`{"metadata":{"labels":{"a":"\"é\n"},"name":"","uid":"` + long + `"},"spec":{"containers":[],"nodeSelector":{}},"status":{"phase":"Running","podIP":"10.0.0.1"}}`,
		`{"metadata":{"labels":null},"spec":{"containers":null,"overhead":{"cpu":"100m"}}}`,
		`{"spec":{"containers":[{"args":["` + strings.Repeat(long, 50) + `"],"name":"too much to be shared"}]}}`,
	} {
		var want core.Pod
		if err := json.Unmarshal([]byte(doc), &want); err != nil {
			t.Fatal(err)
		}
		pod, again := read(t, keeping(), doc)
		if !reflect.DeepEqual(pod, &want) || !reflect.DeepEqual(again, &want) {
			t.Errorf("%s is read as\n%+v\nand\n%+v", doc, pod, again)
		}
	}
}

// Parts that begin alike are told apart, and those that are alike are shared, also when
// others came between. Two parts may by chance want the same place, and then are not
// shared: one in two hundred of these documents has such parts, and not one after another.
func TestPartsThatBeginAlike(t *testing.T) {
	var lost []string
	for _, letter := range "abcde" {
		missed := readsAlike(t, strings.Repeat(string(letter), 80))
		if len(missed) == 0 {
			return
		}
		lost = append(lost, missed...)
	}
	t.Errorf("of five documents each has labels that are shared otherwise: %q", lost)
}

// readsAlike reads pods whose labels begin alike, and says which of them are not shared with
// those that are equal, and only those.
func readsAlike(t *testing.T, same string) (missed []string) {
	t.Helper()
	r := keeping()
	doc := func(end string) string {
		return fmt.Sprintf(`{"metadata":{"labels":{"app":%q,"end":%q}},"spec":{"nodeSelector":{"app":%q}}}`, same, end, same)
	}
	first, _ := read(t, r, doc("one"))
	for _, end := range []string{"two", "one", "on", "one-more", "two"} {
		pod, again := read(t, r, doc(end))
		if pod.Labels["end"] != end || len(pod.Labels) != 2 || len(pod.Spec.NodeSelector) != 1 {
			t.Errorf("the labels of %s are %v, and its selector %v", end, pod.Labels, pod.Spec.NodeSelector)
		}
		shared := func(o *core.Pod) bool {
			return reflect.ValueOf(pod.Labels).UnsafePointer() == reflect.ValueOf(o.Labels).UnsafePointer()
		}
		if end != "one" && shared(first) {
			t.Errorf("the labels of %s are those of another pod, with other labels", end)
		}
		if !shared(again) || end == "one" && !shared(first) {
			missed = append(missed, end)
		}
	}
	return missed
}

// Parts are shared by objects of different types.
func TestPartsOfDifferentTypes(t *testing.T) {
	r := keeping()
	doc := `{"metadata":{"labels":{"app":"web"}}}`
	pod, _ := read(t, r, doc)
	template := new(core.PodTemplateSpec)
	if !r.Read([]byte(doc), template) {
		t.Fatalf("%s is not read", doc)
	}
	if reflect.ValueOf(pod.Labels).UnsafePointer() != reflect.ValueOf(template.Labels).UnsafePointer() {
		t.Error("a pod does not share its labels with its template")
	}
}

// What is cut off or broken is not read, though its parts are known.
func TestBrokenIsNotKept(t *testing.T) {
	r, doc := keeping(), `{"metadata":{"labels":{"a":"b"},"name":"web-1"},"spec":{"containers":[{"name":"c"}]}}`
	read(t, r, doc)
	for i := range doc {
		if r.Read([]byte(doc[:i]), new(core.Pod)) {
			t.Errorf("%s is read", doc[:i])
		}
		if broken := doc[:i] + "}" + doc[i:]; !json.Valid([]byte(broken)) && r.Read([]byte(broken), new(core.Pod)) {
			t.Errorf("%s is read", broken)
		}
	}
}

// Pointers to what is one of a few share it, and lead to what the document said.
func TestFewAreShared(t *testing.T) {
	type pointers struct {
		Truth  *bool  `json:"truth"`
		Number *int32 `json:"number"`
		Long   *int64 `json:"long"`
	}
	r := parse.Keeping()
	for doc, shared := range map[string]bool{
		`{"long":30,"number":0,"truth":true}`:                     true,
		`{"long":1023,"number":7,"truth":false}`:                  true,
		`{"long":1024,"number":-1,"truth":false}`:                 false,
		`{"long":9007199254740991,"number":2000000,"truth":true}`: false,
		`{"long":null,"number":null,"truth":null}`:                true,
		`{}`: true,
	} {
		var one, other, want pointers
		if err := json.Unmarshal([]byte(doc), &want); err != nil {
			t.Fatal(err)
		}
		if !r.Read([]byte(doc), &one) || !r.Read([]byte(doc), &other) || !reflect.DeepEqual(one, want) {
			t.Errorf("%s is read as %+v", doc, one)
		}
		if one.Truth != other.Truth || (one.Number == other.Number) != shared || (one.Long == other.Long) != shared {
			t.Errorf("of two that are read from %s, %+v and %+v, the numbers are shared is not %v", doc, one, other, shared)
		}
	}
	for _, doc := range []string{`{"truth":1}`, `{"number":"1"}`, `{"number":4294967296}`, `{"long":1.5}`} {
		if r.Read([]byte(doc), new(pointers)) {
			t.Errorf("%s is read", doc)
		}
	}
}
