// Package kindtest has the kinds of objects that upstream's API stores, for tests of what
// must agree with upstream about every one of them. Only tests use it.
package kindtest

import (
	"iter"
	"math/rand"
	"testing"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	kubefuzzer "k8s.io/kubernetes/pkg/api/testing" // installs upstream's scheme
	"sigs.k8s.io/randfill"
)

// Stored yields each kind that upstream stores, as it holds it in memory, with every
// version in which it serves it and could store it.
func Stored(t testing.TB) iter.Seq2[schema.GroupVersionKind, schema.GroupVersion] {
	return func(yield func(schema.GroupVersionKind, schema.GroupVersion) bool) {
		for kind := range legacyscheme.Scheme.AllKnownTypes() {
			if kind.Version != runtime.APIVersionInternal {
				continue
			}
			example, err := legacyscheme.Scheme.New(kind)
			if err != nil {
				t.Fatalf("upstream knows the kind %s and cannot make one: %v", kind, err)
			}
			if _, ok := example.(metav1.ObjectMetaAccessor); !ok {
				continue
			}
			for _, version := range legacyscheme.Scheme.PrioritizedVersionsForGroup(kind.Group) {
				if legacyscheme.Scheme.Recognizes(version.WithKind(kind.Kind)) && !yield(kind, version) {
					return
				}
			}
		}
	}
}

// Filler fills objects of these kinds at random, as upstream's own tests do.
func Filler(seed int64) *randfill.Filler {
	return fuzzer.FuzzerFor(kubefuzzer.FuzzerFuncs, rand.NewSource(seed), legacyscheme.Codecs)
}
