package api

import (
	"bytes"
	"context"
	"net/http"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

// insideChain is the way into the API for this process: authorization,
// admission and validation as for everybody, by the rules for the user that the
// caller names. What only matters to connections and to strangers (TLS,
// authentication, fairness among flows, timeouts, request logs) is left out.
func insideChain(s *genericapiserver.GenericAPIServer, c genericapiserver.CompletedConfig) http.Handler {
	h := http.Handler(s.Handler.Director)
	h = filters.WithAuthorization(h, c.Authorization.Authorizer, c.Serializer)
	h = filters.WithRequestInfo(h, c.RequestInfoResolver)
	h = filters.WithRequestReceivedTimestamp(h)
	return filters.WithAuditInit(h)
}

// admin is this process itself.
var admin = &user.DefaultInfo{Name: "system:apiserver", Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}

// do makes a request as a user and returns the status and the body of the answer.
func (s *Server) do(ctx context.Context, u user.Info, method, target string, body []byte) (int, []byte, error) {
	r, err := http.NewRequestWithContext(request.WithUser(ctx, u), method, target, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.RequestURI = target
	r.RemoteAddr = "127.0.0.1:0"
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "reprise")
	if len(body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	w := &recorder{header: http.Header{}}
	s.inside.ServeHTTP(w, r)
	return max(w.status, http.StatusOK), w.body.Bytes(), nil
}

// recorder keeps a response. It is whole in memory before anybody reads it, so
// it is for answers that end: not for watches.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}

// Flush implements http.Flusher.
func (r *recorder) Flush() {}
