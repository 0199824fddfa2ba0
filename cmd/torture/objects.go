package main

import (
	"fmt"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// absent is the content of an object that is not there.
const absent = ""

// registry is what the clients of an API know for certain of their objects.
type registry struct {
	mu      sync.Mutex
	objects map[string]*known
	counts  tally
}

// known is what an object may say: one thing, unless the answer to a write was lost.
type known struct {
	may []string
	// last is what it was last acknowledged to say, and its resourceVersion then.
	last, version string
}

func newRegistry() *registry { return &registry{objects: make(map[string]*known)} }

// outcome is what the error of a write says of it.
func outcome(err error) fate {
	switch {
	case err == nil:
		return acknowledged
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err),
		apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err):
		return denied
	}
	return unknown
}

// begin notes that a write is on its way, which may arrive whatever becomes of the
// answer.
func (r *registry) begin(name, content string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.objects[name]
	if k == nil {
		k = &known{may: []string{absent}}
		r.objects[name] = k
	}
	k.may = append(k.may, content)
}

// end notes the answer to the write that began last.
func (r *registry) end(name, content, version string, err error) fate {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, k := outcome(err), r.objects[name]
	switch f {
	case acknowledged:
		*k = known{may: []string{content}, last: content, version: version}
	case denied:
		k.may = k.may[:len(k.may)-1]
	}
	r.counts[f]++
	return f
}

// object is what a server says of one.
type object struct{ content, version string }

// check compares what a server has with what is known. What it says is certain from
// then on.
func (r *registry) check(have map[string]object) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, k := range r.objects {
		is := have[name]
		switch {
		case !slices.Contains(k.may, is.content):
			return fmt.Errorf("LOST: %s says %.40q at version %s, and may say %.40q (acknowledged at version %s)", name, is.content, is.version, k.may, k.version)
		case is.content == k.last && k.version != "" && is.content != absent && is.version != k.version:
			return fmt.Errorf("%s was acknowledged at version %s, and says the same at %s", name, k.version, is.version)
		}
		*k = known{may: []string{is.content}, last: is.content, version: is.version}
	}
	for name := range have {
		if r.objects[name] == nil {
			return fmt.Errorf("%s is there, and nobody made it", name)
		}
	}
	return nil
}
