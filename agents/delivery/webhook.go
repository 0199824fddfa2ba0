package delivery

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/reprise-run/reprise/agents/delivery/plan"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/schema"
)

// Webhook is a Sender of CloudEvents over HTTP.
type Webhook struct {
	URL string
	// Structured puts the whole event into the body; otherwise its attributes are
	// headers and the body is the data.
	Structured bool
	// Header is sent along, such as an Authorization.
	Header http.Header
	Client *http.Client
}

var _ Sender = (*Webhook)(nil)

// NewWebhook returns a webhook that waits for an answer as long as timeout.
func NewWebhook(to string, timeout time.Duration) (*Webhook, error) {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no address to deliver to: give one such as https://example.com/events", to)
	}
	return &Webhook{URL: to, Header: http.Header{}, Client: &http.Client{
		Timeout: timeout,
		// Where else to send a cluster's events is not the receiver's to say.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Target is Sender's. What an address has of secrets is left out.
func (w *Webhook) Target() string { return Redacted(w.URL) }

// withheld stands for what an address has of secrets.
const withheld = "xxxxx"

// Redacted is an address without passwords, and without the values of its query,
// which are often keys.
func Redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return withheld
	}
	if u.RawQuery != "" {
		var names []string
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			if name, _, has := strings.Cut(pair, "="); has {
				names = append(names, name+"="+withheld)
			} else {
				names = append(names, withheld)
			}
		}
		u.RawQuery = strings.Join(names, "&")
	}
	u.Fragment, u.RawFragment = "", ""
	return u.Redacted()
}

// Incomplete says whether something was left out of an address by Redacted.
func Incomplete(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return true
	}
	password, _ := u.User.Password()
	return password == withheld || u.RawQuery != "" && Redacted(address) == address
}

// longHeaderNote is how long a note may be as a header: many servers take no more
// than 8 kB of all headers together.
const longHeaderNote = 2 << 10

// attributes are those of the CloudEvent, by the names that they have over NATS,
// without data and its type.
func attributes(e *events.Event) map[string]string {
	number := func(n uint64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatUint(n, 10)
	}
	moment := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	flag := func(b bool) string {
		if b {
			return "true"
		}
		return ""
	}
	all := map[string]string{
		"specversion": "1.0", "id": number(e.Sequence), "type": e.Type, "subject": e.Object.String(), "time": moment(e.Time),
		"source": "/" + url.PathEscape(e.Actor.Kind) + "/" + url.PathEscape(e.Actor.Name),
		"uid":    e.UID, "user": e.User, "audit": e.Audit, "sourceversion": e.Actor.Version,
		"cause": number(e.Cause), "basis": number(e.Basis), "now": moment(e.Now),
		"optional": flag(e.Optional), "more": flag(e.More), "note": string(e.Note),
	}
	if path, ok := schema.PathOf(e.Type, e.Object); ok {
		all["dataschema"] = schema.Base + path
	}
	if e.Chain != ([32]byte{}) {
		all["chain"] = hex.EncodeToString(e.Chain[:])
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

func contentType(e *events.Event) string {
	if effect, ok := events.EffectOf(e.Type, e.Object); ok && (effect == events.Changes || effect == events.Removes) {
		return "application/json-patch+json"
	}
	return "application/json"
}

// structured is the event as one JSON document.
func structured(e *events.Event) ([]byte, error) {
	document := map[string]any{"datacontenttype": contentType(e), "data": json.RawMessage(e.Data)}
	for name, value := range attributes(e) {
		document[name] = value
	}
	return json.Marshal(document)
}

// escape percent-encodes what CloudEvents wants encoded in headers: white space,
// double quotes, percent signs and all that is not printable ASCII.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// request is what is sent for an event.
func (w *Webhook) request(ctx context.Context, e *events.Event) (*http.Request, error) {
	body, header := e.Data, w.Header.Clone()
	if w.Structured {
		var err error
		if body, err = structured(e); err != nil {
			return nil, err
		}
		header.Set("Content-Type", "application/cloudevents+json; charset=UTF-8")
	} else {
		header.Set("Content-Type", contentType(e))
		for name, value := range attributes(e) {
			if name != "note" || len(value) <= longHeaderNote {
				header.Set("Ce-"+name, escape(value))
			}
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header = header
	return r, nil
}

// Send is Sender's.
func (w *Webhook) Send(ctx context.Context, e *events.Event) plan.Outcome {
	r, err := w.request(ctx, e)
	if err != nil {
		return plan.Outcome{Verdict: plan.Refused, Reason: "it cannot be written as a CloudEvent: " + err.Error()}
	}
	answer, err := w.Client.Do(r)
	if err != nil {
		// Its own text has the whole address, but for a password.
		if failed := (*url.Error)(nil); errors.As(err, &failed) {
			err = fmt.Errorf("%s %s: %w", failed.Op, w.Target(), failed.Err)
		}
		return plan.Outcome{Verdict: plan.Unreachable, Reason: err.Error()}
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, 300))
	if err != nil {
		said = append(said, " (cut short)"...)
	}
	return judge(answer, strings.TrimSpace(string(said)), time.Now())
}

// judge says what an answer means.
func judge(answer *http.Response, said string, now time.Time) plan.Outcome {
	o := plan.Outcome{Verdict: plan.Refused, Reason: answer.Status}
	if said != "" {
		o.Reason += ": " + strings.ToValidUTF8(said, "?")
	}
	switch code := answer.StatusCode; {
	case code >= 200 && code < 300:
		return plan.Outcome{Verdict: plan.Accepted}
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500:
		o.Verdict = plan.Failed
		o.After = retryAfter(answer.Header.Get("Retry-After"), now)
	case code < 400, elsewhere[code]:
		o.Verdict = plan.Unreachable
	}
	return o
}

// elsewhere are the answers, beside redirections, by which it is not the event that
// is refused: the address is wrong, or what the request shows to be let in.
var elsewhere = map[int]bool{
	http.StatusUnauthorized: true, http.StatusForbidden: true, http.StatusNotFound: true,
	http.StatusMethodNotAllowed: true, http.StatusProxyAuthRequired: true, http.StatusGone: true,
}

// longestAfter is the longest pause that a receiver is granted.
const longestAfter = time.Hour

// retryAfter reads the header of that name: seconds, or a time.
func retryAfter(text string, now time.Time) time.Duration {
	after := time.Duration(0)
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		after = at.Sub(now)
	}
	return min(max(after, 0), longestAfter)
}
