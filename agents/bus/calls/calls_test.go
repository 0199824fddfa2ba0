package calls

import (
	"context"
	"errors"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/events/jetstream"
)

func TestCalls(t *testing.T) {
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	node, err := bus.NewNode("reprise", "n1.example.com")
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(nc, node)
	if err := c.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "no server") {
		t.Errorf("nobody serves: %v", err)
	}
	stop, err := Serve(nc, "reprise", func(_ context.Context, node, namespace, account string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
		switch account {
		case "forbidden":
			return nil, apierrors.NewForbidden(schema.GroupResource{Resource: "serviceaccounts"}, account, errors.New("no such pod here"))
		case "broken":
			return nil, errors.New("broken")
		}
		out := r.DeepCopy()
		out.Status.Token = node + "/" + namespace + "/" + account
		return out, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	want := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"a"}}}
	got, err := c.Token(t.Context(), "shop", "default", want)
	if err != nil || got.Status.Token != "n1.example.com/shop/default" || got.Spec.Audiences[0] != "a" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := c.Token(t.Context(), "shop", "forbidden", want); !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Token(t.Context(), "shop", "broken", want); err == nil || !strings.HasSuffix(err.Error(), "broken") {
		t.Errorf("got %v", err)
	}
	stop()
	if err := c.Ping(t.Context()); err == nil {
		t.Error("it is served after the end")
	}
}
