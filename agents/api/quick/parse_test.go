package quick

import (
	"reflect"
	"testing"

	"github.com/go-json-experiment/json"
	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/kindtest"
	"github.com/reprise-run/reprise/projections/parse"
)

// agrees compares with the reader to which all is left that is not parsed.
func agrees(t *testing.T, raw []byte, into func() any) (parsed bool) {
	t.Helper()
	got, want := into(), into()
	if !parse.Brief.Read(raw, got) {
		return false
	}
	if err := json.Unmarshal(raw, want, asUpstream); err != nil {
		t.Fatalf("%s is parsed, and cannot be read: %v", raw, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s is parsed as\n%#v\nand read as\n%#v", raw, got, want)
	}
	return true
}

func pod() any { return new(v1.Pod) }

// TestParseAgrees parses random pods, and what is left of them where they are cut off.
func TestParseAgrees(t *testing.T) {
	fill := kindtest.Filler(5)
	parsed := 0
	for range 200 {
		var o v1.Pod
		fill.Fill(&o)
		raw, err := json.Marshal(&o)
		if err == nil {
			raw, err = events.Canonical(raw)
		}
		if err != nil {
			t.Fatal(err)
		}
		if agrees(t, raw, pod) {
			parsed++
		}
		for i := 0; i < len(raw); i += 1 + len(raw)/50 {
			if parse.Brief.Read(raw[:i], pod()) {
				t.Fatalf("%s is parsed", raw[:i])
			}
		}
	}
	if parsed < 190 {
		t.Errorf("only %d pods were parsed", parsed)
	}
}

// TestParseOrNot has what is parsed, and what is left to the other reader.
func TestParseOrNot(t *testing.T) {
	for raw, want := range map[string]bool{
		`{}`: true, `null`: true, ``: false, `[]`: false, `{} `: false, `{}x`: false, `{"spec":{}`: false, `{"spec":{},}`: false,
		`{"metadata":{"labels":null,"name":null}}`: true, `{"metadata":{"labels":{},"ownerReferences":[]}}`: true,
		`{"metadata":{"labels":{"a":"é\n\"","b":null}}}`: true, "{\"metadata\":{\"labels\":{\"a\":\"\xff\"}}}": false,
		`{"metadata":{"name":"a","labels":{}}}`: false, `{"metadata":{"name":"a","name":"b"}}`: false, `{"metadata":{"creationTimestamp":null,"what":[{"is":"it"}]}}`: true,
		`{"metadata":{"creationTimestamp":"2026-01-01T00:00:00.5+01:00"}}`: true, `{"metadata":{"creationTimestamp":"today"}}`: false,
		`{"metadata":{"generation":-7}}`: true, `{"metadata":{"generation":1.5}}`: false, `{"metadata":{"generation":9223372036854775808}}`: false, `{"metadata":{"generation":"1"}}`: false,
		`{"spec":{"priority":2147483648}}`: false, `{"spec":{"hostNetwork":1}}`: false, `{"spec":{"hostNetwork":true,"hostPID":false,"nodeName":"n"}}`: true,
		`{"spec":{"containers":[null,{},{"name":"a"}]}}`: true, `{"spec":{"containers":[{}{}]}}`: false, `{"spec":{"containers":[{},]}}`: false, `{"spec":{"containers":{}}}`: false,
		`{"spec":{"overhead":{"cpu":"100m","memory":"1Gi"}}}`: true, `{"spec":{"overhead":{"cpu":1}}}`: true, `{"spec":{"overhead":{"cpu":"x"}}}`: false, `{"spec":{"overhead":{}}}`: true,
	} {
		if got := agrees(t, []byte(raw), pod); got != want {
			t.Errorf("%s is parsed: %t", raw, got)
		}
	}
}
