package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/projections/history"
)

// access is a person's way to a cluster: a context of a kubeconfig.
type access struct {
	options *clientcmd.PathOptions
	config  *clientcmdapi.Config
	context string
}

// access reads the kubeconfig that is to be used.
func (o *rewindOptions) access() (*access, error) {
	a := &access{options: clientcmd.NewDefaultPathOptions()}
	switch {
	case o.kubeconfig != "":
		a.options.LoadingRules.ExplicitPath = o.kubeconfig
	case os.Getenv("KUBECONFIG") == "":
		a.options.LoadingRules.ExplicitPath = o.Kubeconfig()
	}
	var err error
	a.config, err = a.options.LoadingRules.Load()
	if errors.Is(err, fs.ErrPermission) && o.kubeconfig == "" {
		return nil, fmt.Errorf("only the administrator may use %s: give your own access by --kubeconfig or $KUBECONFIG", a.file())
	}
	if errors.Is(err, fs.ErrNotExist) && o.kubeconfig == "" {
		return nil, fmt.Errorf("no cluster was started here (there is no %s): `reprise up` starts one; --data-dir says where one is, and --kubeconfig how to reach one elsewhere", a.file())
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the kubeconfig: %w", err)
	}
	if a.context = o.context; a.context == "" {
		a.context = a.config.CurrentContext
	}
	c, ok := a.config.Contexts[a.context]
	if !ok || a.config.Clusters[c.Cluster] == nil {
		return nil, fmt.Errorf("%s has no context %q with a cluster", a.file(), a.context)
	}
	return a, nil
}

// file is where the kubeconfig lies, for people.
func (a *access) file() string {
	if explicit := a.options.GetExplicitFile(); explicit != "" {
		return explicit
	}
	return a.options.GetDefaultFilename()
}

// resolve asks the server which moment a point is. The point is read here, where
// the person's clock and time zone are.
func (a *access) resolve(ctx context.Context, point string) (m past.Moment, err error) {
	parsed, err := history.ParsePoint(point, time.Now())
	if err != nil {
		return m, err
	}
	text := "now"
	if parsed.Sequence > 0 {
		text = fmt.Sprintf("@%d", parsed.Sequence)
	} else if !parsed.Time.IsZero() {
		text = parsed.Time.Format(time.RFC3339Nano)
	}
	present, err := a.present()
	if err != nil {
		return m, err
	}
	config, err := clientcmd.NewDefaultClientConfig(*present, nil).ClientConfig()
	if err != nil {
		return m, fmt.Errorf("the kubeconfig %s does not do: %w", a.file(), err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return m, fmt.Errorf("the kubeconfig %s does not do: %w", a.file(), err)
	}
	answer := client.CoreV1().RESTClient().Get().AbsPath(past.Prefix + text).Do(ctx)
	switch err := answer.Error(); {
	case apierrors.IsNotFound(err):
		return m, fmt.Errorf("%s keeps no history: it answers nothing under %s", config.Host, past.Prefix)
	case err != nil && apierrors.ReasonForError(err) == metav1.StatusReasonUnknown && ctx.Err() == nil:
		return m, fmt.Errorf("cannot reach the API server at %s: %w; is `reprise up` running?", config.Host, err)
	case err != nil:
		return m, err
	}
	body, err := answer.Raw()
	if err != nil || json.Unmarshal(body, &m) != nil || m.Sequence == 0 {
		return m, fmt.Errorf("%s keeps no history: it does not know what moment %s is", config.Host, text)
	}
	return m, nil
}

// present is the context alone, and of the present.
func (a *access) present() (*clientcmdapi.Config, error) {
	c := a.config.DeepCopy()
	c.CurrentContext = a.context
	if err := clientcmdapi.MinifyConfig(c); err != nil {
		return nil, fmt.Errorf("the kubeconfig %s does not do: %w", a.file(), err)
	}
	for _, cluster := range c.Clusters {
		cluster.Server = presentServer(cluster.Server)
	}
	return c, nil
}

// only is the context alone, as of a moment.
func (a *access) only(m past.Moment) (*clientcmdapi.Config, error) {
	c, err := a.present()
	if err != nil {
		return nil, err
	}
	for _, cluster := range c.Clusters {
		cluster.Server = rewoundServer(cluster.Server, m)
	}
	return c, nil
}

// modify changes the kubeconfig in its file.
func (a *access) modify(change func(*clientcmdapi.Config)) error {
	c := a.config.DeepCopy()
	change(c)
	if err := clientcmd.ModifyConfig(a.options, *c, true); err != nil {
		return fmt.Errorf("cannot change the kubeconfig %s: %w", a.file(), err)
	}
	return nil
}

// rewound lists the contexts of the past.
func (a *access) rewound() (names []string) {
	for name, c := range a.config.Contexts {
		if cluster := a.config.Clusters[c.Cluster]; cluster != nil && isRewound(cluster.Server) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// base is the context of the present that one of the past was made from, "" if it
// has gone.
func (a *access) base(name string) string {
	base := baseName(name)
	if _, ok := a.config.Contexts[base]; !ok {
		return ""
	}
	return base
}

// contextName names the context of a moment after one of the present, or of another
// moment.
func contextName(context string, m past.Moment) string {
	return fmt.Sprintf("%s@%d", baseName(context), m.Sequence)
}

// baseName is the name of a context without its moment. Names of contexts may have
// an @ themselves.
func baseName(context string) string {
	if i := strings.LastIndexByte(context, '@'); i > 0 && strings.Trim(context[i+1:], "0123456789") == "" {
		return context[:i]
	}
	return context
}

func isRewound(server string) bool {
	u, err := url.Parse(server)
	return err == nil && strings.Contains(u.Path, past.Prefix)
}

// presentServer is a server's address without a moment.
func presentServer(server string) string {
	if before, _, ok := strings.Cut(server, past.Prefix); ok {
		return before
	}
	return strings.TrimSuffix(server, "/")
}

// rewoundServer is a server's address for a moment.
func rewoundServer(server string, m past.Moment) string {
	return fmt.Sprintf("%s%s@%d", presentServer(server), past.Prefix, m.Sequence)
}
