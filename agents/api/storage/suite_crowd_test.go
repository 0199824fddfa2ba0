package storage_test

import (
	"context"
	"testing"

	apiwatch "k8s.io/apimachinery/pkg/watch"
	upstream "k8s.io/apiserver/pkg/storage"

	"github.com/reprise-run/reprise/agents/api/watchers"
)

// crowd has each watch of the suite share a feed with another one, as watches of a
// server do.
func crowd(t *testing.T) *subject {
	s := objects(t)
	s.Interface = crowded{watchers.Shared(s.Interface, newPod), t}
	return s
}

type crowded struct {
	upstream.Interface
	t *testing.T
}

// Watch begins a watch when another one of the same has begun, which hears all and says
// nothing.
func (c crowded) Watch(ctx context.Context, key string, o upstream.ListOptions) (apiwatch.Interface, error) {
	other, err := c.Interface.Watch(ctx, key, o)
	if err != nil {
		return nil, err
	}
	c.t.Cleanup(other.Stop)
	go func() {
		for range other.ResultChan() {
		}
	}()
	return c.Interface.Watch(ctx, key, o)
}
