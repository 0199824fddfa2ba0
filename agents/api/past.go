package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/agents/api/pki"
	"github.com/reprise-run/reprise/agents/api/upstream"
)

// PastOptions configure a server of the past alone.
type PastOptions struct {
	// Dir holds keys and certificates; they are made at the first start.
	Dir string
	// Listener is where clients connect.
	Listener net.Listener
	// Kubeconfig is the file for the administrator's access, written at start. There
	// is nobody else who may connect.
	Kubeconfig string
	// Past is the history, and how it is shown.
	Past past.Options
}

// ServePast serves a history whose cluster need not be there: any moment of it under
// past.Prefix, and its end where no moment is named. It returns once it listens, and
// ends with the context; see Done.
func ServePast(ctx context.Context, o PastOptions) (*Server, error) {
	s, err := servePast(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("cannot serve the past: %w", err)
	}
	return s, nil
}

func servePast(ctx context.Context, o PastOptions) (*Server, error) {
	host := reachable(o.Listener.Addr())
	dir, err := pki.Ensure(filepath.Join(o.Dir, "pki"), []string{"localhost", "127.0.0.1", "::1", host}, time.Now())
	if err != nil {
		return nil, err
	}
	s := &Server{
		Address: "https://" + net.JoinHostPort(host, strconv.Itoa(port(o.Listener.Addr()))),
		pki:     dir, done: make(chan struct{}),
	}
	config, err := pastFilters(o.Listener, dir)
	if err != nil {
		return nil, err
	}
	if err := s.writeKubeconfig(o.Kubeconfig); err != nil {
		return nil, err
	}
	p := past.New(o.Past)
	handler := p.Alone(genericapiserver.DefaultBuildHandlerChain, config)
	stopped, _, err := config.SecureServing.Serve(handler, time.Second, ctx.Done())
	if err != nil {
		p.Close()
		return nil, err
	}
	go func() {
		defer close(s.done)
		<-stopped
		p.Close()
		if ctx.Err() == nil {
			s.err = errors.New("the listener has closed")
		}
	}()
	return s, nil
}

// pastFilters let the administrator in, and nobody else.
func pastFilters(l net.Listener, keys *pki.Dir) (*genericapiserver.Config, error) {
	serving := genericoptions.NewSecureServingOptions()
	serving.Listener = l
	serving.ServerCert.CertKey.CertFile, serving.ServerCert.CertKey.KeyFile = keys.Serving()
	if _, err := upstream.NewOptions(); err != nil {
		return nil, err
	}
	c := genericapiserver.NewConfig(legacyscheme.Codecs)
	c.FeatureGate = utilfeature.DefaultFeatureGate
	if err := serving.ApplyTo(&c.SecureServing); err != nil {
		return nil, err
	}
	ca, err := dynamiccertificates.NewDynamicCAContentFromFile("clients", keys.ClientCA())
	if err != nil {
		return nil, err
	}
	c.SecureServing.ClientCA = ca
	c.Authentication.Authenticator = group.NewAuthenticatedGroupAdder(x509.NewDynamic(ca.VerifyOptions, x509.CommonNameUserConversion))
	c.Authorization.Authorizer = authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)
	c.RequestInfoResolver = genericapiserver.NewRequestInfoResolver(c)
	return c, nil
}

// rewind has a server answer requests about the past too.
func rewind(p *past.Past, c *genericapiserver.Config) {
	c.BuildHandlerChainFunc = p.Wrap(c.BuildHandlerChainFunc)
}
