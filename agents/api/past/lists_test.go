package past_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	goruntime "runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"

	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/projections/kindtest"
)

// upstreamsEncoder is that of upstream's servers, for JSON.
func upstreamsEncoder() runtime.Encoder {
	codecs := genericapiserver.NewDefaultAPIGroupInfo("", legacyscheme.Scheme, legacyscheme.ParameterCodec, legacyscheme.Codecs).NegotiatedSerializer
	info, _ := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), runtime.ContentTypeJSON)
	return codecs.EncoderForVersion(info.Serializer, corev1.SchemeGroupVersion)
}

// TestPodListsAreWrittenAsByUpstream compares lists of random pods, of many lengths.
func TestPodListsAreWrittenAsByUpstream(t *testing.T) {
	fill := kindtest.Filler(3)
	upstream := upstreamsEncoder()
	remaining := int64(7)
	for _, n := range []int{0, 1, 2, 63, 64, 65, 128, 300} {
		pods := &core.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "12", Continue: "<next>", RemainingItemCount: &remaining}, Items: make([]core.Pod, n)}
		for i := range pods.Items {
			fill.Fill(&pods.Items[i])
		}
		var want, got bytes.Buffer
		must(t, upstream.Encode(pods.DeepCopy(), &want))
		must(t, past.PodEncoder(upstream).Encode(pods, &got))
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("%d pods are written as\n%s\nand by upstream as\n%s", n, &got, &want)
		}
	}
}

// TestLargePodsSetLittleAside has the first pods of a list be much larger than those behind.
func TestLargePodsSetLittleAside(t *testing.T) {
	pods := &core.PodList{Items: make([]core.Pod, 64)}
	pods.Items[0].Annotations = map[string]string{"large": strings.Repeat("x", 4<<20)}
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	must(t, past.PodEncoder(upstreamsEncoder()).Encode(pods, io.Discard))
	goruntime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("a list of 4 MB took %d MB of memory", took>>20)
	}
}

// TestOtherAnswersAreUpstreams writes what is not a list of pods.
func TestOtherAnswersAreUpstreams(t *testing.T) {
	upstream := upstreamsEncoder()
	for _, o := range []runtime.Object{&core.Pod{}, &metav1.Status{Status: "Failure", Code: 410}, &core.ConfigMapList{Items: []core.ConfigMap{{}}}} {
		var want, got bytes.Buffer
		must(t, upstream.Encode(o.DeepCopyObject(), &want))
		must(t, past.PodEncoder(upstream).Encode(o, &got))
		if got.String() != want.String() {
			t.Errorf("it is written as\n%s\nand by upstream as\n%s", &got, &want)
		}
	}
}

var errGone = errors.New("the client is gone")

// gone takes some writes and then no more.
type gone int

func (g *gone) Write(p []byte) (int, error) {
	if *g--; *g < 0 {
		return 0, errGone
	}
	return len(p), nil
}

// TestListsEndWithTheirClient writes to clients that go at every point of an answer.
func TestListsEndWithTheirClient(t *testing.T) {
	pods := &core.PodList{Items: make([]core.Pod, 600)}
	for i := range 13 {
		g := gone(i)
		if err := past.PodEncoder(upstreamsEncoder()).Encode(pods, &g); !errors.Is(err, errGone) {
			t.Errorf("after %d writes it fails with %v", i, err)
		}
	}
	if g := gone(13); past.PodEncoder(upstreamsEncoder()).Encode(pods, &g) != nil {
		t.Error("it is written in more parts than this test knows")
	}
}

// testPodLists asks for pods in many ways, and again for people, whom the chain answers.
func testPodLists(t *testing.T, c *cluster) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := c.CoreV1().ServiceAccounts("default").Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, name := range strings.Fields("a b c d e") {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"odd": string("ny"[i%2])}, Annotations: map[string]string{"a": "<&>"}}}
		pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
		if _, err := c.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	then := c.now()
	must(t, c.CoreV1().Pods("default").Delete(t.Context(), "a", metav1.DeleteOptions{}))
	client := kubernetes.NewForConfigOrDie(c.admin).CoreV1().RESTClient()
	get := func(path string) []byte {
		t.Helper()
		raw, err := client.Get().RequestURI(fmt.Sprintf("%s@%d%s", past.Prefix, then, path)).SetHeader("Accept", "application/json").DoRaw(t.Context())
		if err != nil && len(raw) == 0 {
			t.Fatalf("%s: %v", path, err)
		}
		return raw
	}
	for _, path := range []string{"/api/v1/pods", "/api/v1/pods?pretty=true"} {
		var status int
		client.Verb(http.MethodHead).RequestURI(fmt.Sprintf("%s@%d%s", past.Prefix, then, path)).Do(t.Context()).StatusCode(&status)
		if status != http.StatusMethodNotAllowed {
			t.Errorf("HEAD %s is answered with %d, and by upstream with 405", path, status)
		}
	}
	for path, n := range map[string]int{
		"/api/v1/pods?": 5, "/api/v1/namespaces/default/pods?": 5, "/api/v1/namespaces/none/pods?": 0, "/api/v1/pods?labelSelector=odd=y&": 2,
		"/api/v1/pods?limit=2&": 2, "/api/v1/pods?fieldSelector=metadata.name=b&": 1, "/api/v1/pods?fieldSelector=spec.nodeName=&limit=3&": 3,
		"/api/v1/pods?fieldSelector=no&": 0, "/api/v1/pods?resourceVersion=99999&resourceVersionMatch=Exact&": 0, "/api/v1/pods?limit=x&": 0,
	} {
		quickly, forPeople := get(path), get(path+"pretty=true")
		var compact bytes.Buffer
		must(t, json.Compact(&compact, forPeople))
		if compact.String() != strings.TrimSuffix(string(quickly), "\n") {
			t.Errorf("%s is answered by\n%s\nand for people\n%s", path, quickly, &compact)
		}
		var l corev1.PodList
		must(t, json.Unmarshal(quickly, &l))
		if len(l.Items) != n {
			t.Errorf("%s is answered with %d pods: %s", path, len(l.Items), quickly)
		}
	}
}
