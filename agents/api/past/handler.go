package past

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

// Prefix begins the paths of requests about the past.
const Prefix = "/rewind/"

// Build makes a handler chain: authentication, authorization and all else that
// upstream's servers do before they answer.
type Build func(http.Handler, *genericapiserver.Config) http.Handler

// Wrap returns a Build whose handlers answer requests about the past too, behind
// the same filters as those about the present. The filters see the path without the
// prefix, so that they judge what is read and not when.
func (p *Past) Wrap(build Build) Build {
	return func(present http.Handler, c *genericapiserver.Config) http.Handler {
		now := build(present, c)
		past := build(p.handler(present), c)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if point, at, ok := split(r); ok {
				past.ServeHTTP(w, at.WithContext(context.WithValue(at.Context(), pointKey{}, point)))
				return
			}
			now.ServeHTTP(w, r)
		})
	}
}

// Alone is Wrap for a server without a present: what does not say otherwise is asked
// about the end of the history.
func (p *Past) Alone(build Build, c *genericapiserver.Config) http.Handler {
	past := build(p.handler(nil), c)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, at, ok := split(r)
		if !ok {
			asked, at = point{text: "now"}, r
		}
		past.ServeHTTP(w, at.WithContext(context.WithValue(at.Context(), pointKey{}, asked)))
	})
}

// point is what the path said before what is asked.
type point struct {
	text string
	bare bool // nothing else is asked than which moment that is
}

type pointKey struct{}

// split takes the prefix off a request. Which moment a point is may ask whoever may
// ask what APIs there are.
func split(r *http.Request) (point, *http.Request, bool) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), Prefix)
	if !ok {
		return point{}, nil, false
	}
	text, path, more := strings.Cut(rest, "/")
	if text == "" {
		return point{}, nil, false
	}
	unescaped, err := url.PathUnescape(text)
	if err != nil {
		return point{}, nil, false
	}
	at := new(http.Request)
	*at = *r
	at.URL = new(url.URL)
	*at.URL = *r.URL
	if !more {
		at.URL.Path, at.URL.RawPath = "/api", ""
		return point{text: unescaped, bare: true}, at, true
	}
	at.URL.RawPath = "/" + path
	if at.URL.Path, err = url.PathUnescape(at.URL.RawPath); err != nil {
		return point{}, nil, false
	}
	return point{text: unescaped}, at, true
}

// handler answers what has passed the filters.
func (p *Past) handler(present http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		asked, _ := ctx.Value(pointKey{}).(point)
		info, ok := request.RequestInfoFrom(ctx)
		if !ok {
			fail(w, r, errNoInfo)
			return
		}
		if present != nil && (review(info) || timeless(info)) {
			present.ServeHTTP(w, r)
			return
		}
		m, err := p.Resolve(asked.text)
		if err != nil {
			fail(w, r, noSuchPoint(err))
			return
		}
		audit.AddAuditAnnotation(ctx, "reprise.run/rewind", "@"+strconv.FormatUint(m.Sequence, 10))
		if asked.bare {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(m)
			return
		}
		if err := refusal(info, m); err != nil {
			fail(w, r, err)
			return
		}
		if silent(info, r) {
			warning.AddWarning(ctx, "", fmt.Sprintf("%s, and nothing changes in it: a watch of %s stays silent from here on", then(m), what(info)))
		}
		c, release, err := p.chains.at(ctx, m.Sequence)
		if err != nil {
			fail(w, r, notStarted(err))
			return
		}
		defer release()
		reading, end := within(ctx, m)
		defer end()
		c.handler.ServeHTTP(w, r.WithContext(reading))
	})
}

// silent says whether somebody waits for what does not come. Programs that keep a cache
// watch too, and have nothing to wait for: they ask for bookmarks.
func silent(info *request.RequestInfo, r *http.Request) bool {
	caches, _ := strconv.ParseBool(r.URL.Query().Get("allowWatchBookmarks"))
	return info.IsResourceRequest && info.Verb == "watch" && !caches
}

func fail(w http.ResponseWriter, r *http.Request, err error) {
	responsewriters.ErrorNegotiated(err, legacyscheme.Codecs, schema.GroupVersion{Version: "v1"}, w, r)
}
