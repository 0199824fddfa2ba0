package past

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc/test/bufconn"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// schemaPatience is how long a chain may take to publish the schemas of custom
// resources, after which it serves without.
const schemaPatience = 10 * time.Second

// ready waits until a chain says that it is, and has published the schemas of all
// custom resources of its epoch: upstream does that by and by, and until then there
// is no explaining or validating them.
func ready(ctx context.Context, pipe *bufconn.Listener, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ask := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return pipe.DialContext(ctx) },
	}}
	defer ask.CloseIdleConnections()
	if err := until(ctx, ask, "/readyz?verbose", func([]byte) bool { return true }); err != nil {
		return fmt.Errorf("upstream's servers do not become ready: %w", err)
	}
	ctx, cancel = context.WithTimeout(ctx, schemaPatience)
	defer cancel()
	var all apiextensions.CustomResourceDefinitionList
	err := until(ctx, ask, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", func(body []byte) bool {
		return json.Unmarshal(body, &all) == nil
	})
	if want := documents(all.Items); err == nil && len(want) > 0 {
		_ = until(ctx, ask, "/openapi/v3", func(body []byte) bool { return has(body, want) })
	}
	return nil
}

// documents are those in which the schemas are of the custom resources that are
// served.
func documents(all []apiextensions.CustomResourceDefinition) (paths []string) {
	for _, d := range all {
		if !established(d) {
			continue
		}
		for _, v := range d.Spec.Versions {
			if v.Served && v.Schema != nil {
				paths = append(paths, "apis/"+d.Spec.Group+"/"+v.Name)
			}
		}
	}
	return paths
}

func established(d apiextensions.CustomResourceDefinition) bool {
	for _, c := range d.Status.Conditions {
		if c.Type == apiextensions.Established {
			return c.Status == apiextensions.ConditionTrue
		}
	}
	return false
}

// has says whether an index of documents lists them all.
func has(index []byte, want []string) bool {
	var found struct{ Paths map[string]any }
	if json.Unmarshal(index, &found) != nil {
		return false
	}
	for _, path := range want {
		if _, ok := found.Paths[path]; !ok {
			return false
		}
	}
	return true
}

// until asks again and again until the answer is good.
func until(ctx context.Context, ask http.Client, path string, good func([]byte) bool) error {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://past"+path, nil)
		if err != nil {
			return err
		}
		resp, err := ask.Do(r)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		if resp.StatusCode == http.StatusOK && good(body) {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), body)
		}
	}
}
