package api_test

import (
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
)

// Who asks under a name that the log cannot hold is told so, as somebody who can mend it.
func whoAsksCanBeNamed(t *testing.T, s *running) {
	for what, ask := range map[string]func(*restclient.Config){
		"a user": func(c *restclient.Config) {
			c.Impersonate = restclient.ImpersonationConfig{UserName: "a\tb", Groups: []string{user.SystemPrivilegedGroup}}
		},
		"an audit id": func(c *restclient.Config) {
			c.Wrap(func(next http.RoundTripper) http.RoundTripper {
				return asked(func(r *http.Request) (*http.Response, error) {
					r = r.Clone(r.Context())
					r.Header.Set(auditapi.HeaderAuditID, "a\tb")
					return next.RoundTrip(r)
				})
			})
		},
	} {
		as := restclient.CopyConfig(s.admin)
		ask(as)
		before := s.history.Sequence()
		_, err := kubernetes.NewForConfigOrDie(as).CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(t.Context(), config("x"), metav1.CreateOptions{})
		if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `may not hold the character '\t'`) {
			t.Errorf("%s is answered: %v", what, err)
		}
		if written := s.about(t, before, "configmaps"); len(written) > 0 {
			t.Errorf("%s wrote %v", what, written)
		}
	}
}

// asked implements http.RoundTripper.
type asked func(*http.Request) (*http.Response, error)

func (a asked) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }
