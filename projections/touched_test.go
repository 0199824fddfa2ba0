package projections_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// An object that is decoded from the version before it is what its bytes say, and
// leaves that version as it was: for random objects of which random members change.
func TestVersionsShareWhatIsTheSame(t *testing.T) {
	t.Run("pods", versions[core.Pod]("pods"))
	t.Run("nodes", versions[core.Node]("nodes"))
	t.Run("configmaps", versions[core.ConfigMap]("configmaps"))
	t.Run("deployments", versions[apps.Deployment]("deployments"))
	t.Run("definitions", versions[apiextensions.CustomResourceDefinition]("customresourcedefinitions"))
}

func versions[T any](plural string) func(*testing.T) {
	return func(t *testing.T) {
		for seed := range uint64(12) {
			follow[T](t, plural, seed)
		}
	}
}

func follow[T any](t *testing.T, plural string, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	ref := events.Ref{Resource: plural, Namespace: "shop", Name: "one"}
	h, s := projectionstest.NewHistory(), projections.NewState()
	object := random[T](seed)
	doc := document(t, object)
	h.Create(ref, string(doc))
	var before *projections.Entry
	for i := range 40 {
		e := s.View().Get(ref)
		if i > 0 {
			mix(r, reflect.ValueOf(object).Elem(), reflect.ValueOf(random[T](r.Uint64())).Elem())
			next := document(t, object)
			patch, err := events.Diff(doc, next)
			if err != nil {
				t.Fatal(err)
			}
			if patch == nil {
				continue
			}
			h.Update(ref, string(patch))
			doc = next
		}
		if _, err := s.Fold(h.Events); err != nil {
			t.Fatal(err)
		}
		before, e = e, s.View().Get(ref)
		if r.IntN(3) == 0 {
			same(t, "metadata", e.Meta(), fresh(e).Meta())
		}
		if r.IntN(3) > 0 {
			same(t, "object", projections.As[T](e), projections.As[T](fresh(e)))
			same(t, "metadata", e.Meta(), fresh(e).Meta())
		}
		if before != nil {
			other := fresh(e)
			other.Succeed(before)
			same(t, "object that was not folded", projections.As[T](other), projections.As[T](fresh(e)))
			same(t, "object of the version before", projections.As[T](before), projections.As[T](fresh(before)))
		}
	}
}

// fresh is an entry of which nothing is decoded.
func fresh(e *projections.Entry) *projections.Entry {
	return projections.NewEntry(e.Ref, e.UID, e.Created, e.Sequence, e.Raw)
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		t.Fatalf("the %s is\n%s\nand should be\n%s", what, a, b)
	}
}

// mix takes some fields of b, or some of the fields of one, for those of a.
func mix(r *rand.Rand, a, b reflect.Value) {
	for range 1 + r.IntN(3) {
		i := r.IntN(a.NumField())
		if f := a.Field(i); f.Kind() == reflect.Struct && f.Type().NumField() > 0 && r.IntN(4) > 0 {
			j := r.IntN(f.NumField())
			f.Field(j).Set(b.Field(i).Field(j))
			continue
		}
		a.Field(i).Set(b.Field(i))
	}
}

func random[T any](seed uint64) *T {
	o := new(T)
	filler := randfill.NewWithSeed(int64(seed)).NilChance(0.4).NumElements(0, 3).MaxDepth(12).Funcs(
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.NewTime(time.Unix(int64(c.Uint32()), 0).UTC()) },
		func(t *metav1.MicroTime, c randfill.Continue) {
			*t = metav1.NewMicroTime(time.Unix(int64(c.Uint32()), 0).UTC())
		},
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(int64(c.Intn(5000)), resource.DecimalSI)
		},
		func(i *intstr.IntOrString, c randfill.Continue) { *i = intstr.FromInt32(int32(c.Intn(100))) },
		func(f *metav1.FieldsV1, c randfill.Continue) { f.SetRawString(fmt.Sprintf(`{"f:a%d":{}}`, c.Intn(9))) },
		func(e *runtime.RawExtension, c randfill.Continue) { e.Raw = fmt.Appendf(nil, `{"n":%d}`, c.Intn(9)) },
		func(j *apiextensions.JSON, c randfill.Continue) { j.Raw = fmt.Appendf(nil, `{"n":%d}`, c.Intn(9)) },
		func(s *apiextensions.JSONSchemaProps, c randfill.Continue) {
			s.Type, s.Description = c.String(5), c.String(9)
		},
		func(n *int64, c randfill.Continue) { *n = int64(c.Uint32()) },
		func(n *uint64, c randfill.Continue) { *n = uint64(c.Uint32()) },
		func(s *string, c randfill.Continue) { *s = strings.ToValidUTF8(c.String(8), "?") },
		func(m *metav1.ManagedFieldsEntry, c randfill.Continue) { c.FillNoCustom(m); m.FieldsType = "FieldsV1" },
	)
	filler.Fill(o)
	return o
}

func document(t *testing.T, o any) []byte {
	t.Helper()
	raw, err := json.Marshal(o)
	if err == nil {
		raw, err = events.Canonical(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
