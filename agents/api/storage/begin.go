package storage

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/reprise-run/reprise/events"
)

// The first event of the history says that the cluster is there; that of the
// volatile log is a lease that nobody ever renews.
var (
	cluster = first{
		events.Ref{Group: "reprise.run", Resource: "clusters", Name: "cluster"},
		`{"apiVersion":"reprise.run/v1","kind":"Cluster","metadata":{"name":"cluster","uid":%q}}`,
	}
	clock = first{
		events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system", Name: "reprise-first"},
		`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"reprise-first","namespace":"kube-system","uid":%q}}`,
	}
)

type first struct {
	object events.Ref
	format string
}

// begin appends the first event to a log that has none.
func (s *stream) begin(ctx context.Context, f first) error {
	if s.Projection.View().Sequence() > 0 {
		return nil
	}
	_, err := s.put(ctx, f.object, fmt.Appendf(nil, f.format, uuid.NewUUID()), 0)
	if err != nil {
		return fmt.Errorf("the first event cannot be appended: %w", err)
	}
	return nil
}
