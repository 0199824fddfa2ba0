package volumes

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"
)

// token is what the API gave a pod to prove itself with.
type token struct {
	data    []byte
	refresh time.Time
}

const (
	// oldest is how long a token is kept whatever its expiry.
	oldest = 24 * time.Hour
	// retry is when to ask again where the API did not answer.
	retry = 10 * time.Second
)

// tokenFile adds a service account's token, a new one if four fifths of the
// present one's life have passed. While none can be had the one in place stays.
func (s *Store) tokenFile(ctx context.Context, p *payload, pod *v1.Pod, v *v1.Volume, src *v1.ServiceAccountTokenProjection) error {
	p.secret = true
	t, err := s.token(ctx, pod, src)
	if err != nil {
		data, have := kept(filepath.Join(s.path(pod, v), src.Path))
		if !have {
			return fmt.Errorf("no token for service account %q: %w", pod.Namespace+"/"+pod.Spec.ServiceAccountName, err)
		}
		t = token{data: data, refresh: s.now().Add(retry)}
	}
	if p.again.IsZero() || t.refresh.Before(p.again) {
		p.again = t.refresh
	}
	file := volumeutil.FileProjection{Data: t.data, Mode: p.mode}
	switch uid := runsAs(pod); {
	case fsGroup(pod) != nil:
		file.Mode = 0o600
	case uid != nil:
		file.Mode, file.FsUser = 0o600, uid
	}
	p.files[src.Path] = file
	return nil
}

func (s *Store) token(ctx context.Context, pod *v1.Pod, src *v1.ServiceAccountTokenProjection) (token, error) {
	var audiences []string
	if src.Audience != "" {
		audiences = []string{src.Audience}
	}
	key := strings.Join([]string{string(pod.UID), pod.Spec.ServiceAccountName, src.Audience, fmt.Sprint(seconds(src))}, "/")
	s.mu.Lock()
	t, have := s.issued[key]
	s.mu.Unlock()
	if have && s.now().Before(t.refresh) {
		return t, nil
	}
	asked := s.now()
	answer, err := s.tokens(ctx, pod.Namespace, pod.Spec.ServiceAccountName, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			Audiences: audiences, ExpirationSeconds: src.ExpirationSeconds,
			BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
		},
	})
	if err != nil {
		if have {
			t.refresh = asked.Add(retry)
			return t, nil
		}
		return token{}, err
	}
	life := time.Duration(seconds(src)) * time.Second
	if !answer.Status.ExpirationTimestamp.IsZero() {
		life = answer.Status.ExpirationTimestamp.Sub(asked)
	}
	t = token{data: []byte(answer.Status.Token), refresh: asked.Add(min(life*4/5, oldest))}
	s.mu.Lock()
	s.issued[key] = t
	s.mu.Unlock()
	return t, nil
}

func seconds(src *v1.ServiceAccountTokenProjection) int64 {
	if src.ExpirationSeconds == nil {
		return 3600
	}
	return *src.ExpirationSeconds
}
