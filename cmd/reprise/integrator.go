package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/agents/integrator"
	"github.com/reprise-run/reprise/events"
)

// newIntegratorCommand manages who may read the history from outside.
func newIntegratorCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "integrator",
		Short: "Let programs outside subscribe to events, and see how far they are",
		Args:  noSuchCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newIntegratorCreateCommand(env), newIntegratorListCommand(env), newIntegratorDeleteCommand(env))
	return c
}

// integratorOptions are what `integrator create` is told.
type integratorOptions struct {
	name, from, out string
	allow           []string
	password        bool
	inOrder         bool
}

func newIntegratorCreateCommand(env *environment) *cobra.Command {
	var o integratorOptions
	c := &cobra.Command{
		Use:   "create NAME --allow PATTERN...",
		Short: "Make credentials that can read some events and do nothing else",
		Long: `Makes a durable consumer of the log and credentials for it. Whoever has them can
read the events that the patterns allow, wherever it stopped, and acknowledge
them; nothing else, and write nothing.`,
		Example: `  reprise integrator create billing --allow 'pods.shop.>'
  reprise integrator create audit --allow '*.*.*.deleted' --allow 'secrets.>' --from start
  reprise integrator create bash --allow 'deployments.apps.*.scaled' --from -1h --password`,
		Args: oneName("integrator"),
		RunE: func(c *cobra.Command, args []string) error {
			o.name = args[0]
			return env.createIntegrator(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.allow, "allow", nil, "which events, as 'pods.shop.>'; can be given several times")
	f.StringVar(&o.from, "from", "now", "where to begin: now, start (all that ever happened), or after a point such as -1h, 10:42 or @812")
	f.BoolVar(&o.password, "password", false, "make a password in place of a key, for clients that cannot sign")
	f.BoolVar(&o.inOrder, "in-order", false, "one connection at a time; to acknowledge an event is to acknowledge those before it, which is cheaper")
	f.StringVar(&o.out, "out", "", "the file for the key or the password (default NAME.nk or NAME.password)")
	return c
}

func newIntegratorListCommand(env *environment) *cobra.Command {
	p := printer{w: env.Stdout}
	c := &cobra.Command{
		Use:   "list",
		Short: "List the integrators and how far each has read",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.checkObjects(); err != nil {
				return err
			}
			return env.askAll(func(o *operatorConnection) error {
				all, err := o.integrators.List(c.Context())
				if err != nil {
					return err
				}
				if p.format != "" {
					return p.integrators(all)
				}
				return env.printIntegrators(all)
			})
		},
	}
	p.objectsFlag(c)
	return c
}

// integrators prints each as an object.
func (p printer) integrators(all []events.SubscriberStatus) error {
	for _, s := range all {
		may := []string{}
		for _, f := range s.Filters {
			may = append(may, f.String())
		}
		o := map[string]any{
			"name": s.Name, "allow": may, "inOrder": s.InOrder, "after": s.After, "done": s.Done, "delivered": s.Delivered,
			"waiting": s.Pending, "unacknowledged": s.Unacknowledged, "connections": s.Connected,
		}
		if !s.Seen.IsZero() {
			o["seen"] = s.Seen.UTC().Format(time.RFC3339)
		}
		if err := p.object(o); err != nil {
			return err
		}
	}
	return nil
}

func newIntegratorDeleteCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:               "delete NAME",
		Aliases:           []string{"revoke"},
		Short:             "End an integrator's connections, take back its rights and forget its position",
		Args:              oneName("integrator"),
		ValidArgsFunction: env.proposes(integratorNames),
		RunE: func(c *cobra.Command, args []string) error {
			return env.askAll(func(o *operatorConnection) error {
				if err := o.integrators.Delete(c.Context(), args[0]); err != nil {
					return err
				}
				fmt.Fprintf(env.Stdout, "integrator %s is deleted; its key is of no use any more\n", args[0])
				return nil
			})
		},
	}
}

// oneName wants one argument, which names a thing.
func oneName(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("which %s? Give one name: %s", what, c.UseLine())
		}
		return nil
	}
}

// createIntegrator makes an integrator. Its secret is made here and written to a
// file; the server gets what it can be recognized by.
func (e *environment) createIntegrator(ctx context.Context, o integratorOptions) error {
	sub := events.Subscriber{Name: o.name, InOrder: o.inOrder}
	if len(o.allow) == 0 {
		return errors.New("which events may it read? Say for example --allow 'pods.shop.>'")
	}
	for _, pattern := range o.allow {
		f, err := integrator.ParsePattern(pattern)
		if err != nil {
			return fmt.Errorf("--allow %w", err)
		}
		sub.Filters = append(sub.Filters, f)
	}
	secret, err := o.secret(&sub)
	if err != nil {
		return err
	}
	file := o.file()
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("there is a file %s already; move it away or name another with --out", file)
	}
	return e.askAll(func(c *operatorConnection) error {
		if o.from != "now" && o.from != "start" {
			if sub.After, err = resolve(ctx, c.history, o.from); err != nil {
				return fmt.Errorf("--from: %w", err)
			}
		}
		made, err := c.integrators.Create(ctx, sub, o.from == "now")
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			err = fmt.Errorf("cannot keep the credentials: %w", err)
			return errors.Join(err, c.integrators.Delete(ctx, o.name))
		}
		e.explainIntegrator(made, o, c.url, file)
		return nil
	})
}

// file is where the secret goes.
func (o integratorOptions) file() string {
	switch {
	case o.out != "":
		return o.out
	case o.password:
		return filepath.Base(o.name) + ".password"
	}
	return filepath.Base(o.name) + ".nk"
}

// secret makes one, and gives the subscriber its public half.
func (o integratorOptions) secret(sub *events.Subscriber) (string, error) {
	if o.password {
		secret := rand.Text()
		sum := sha256.Sum256([]byte(secret))
		sub.Password = hex.EncodeToString(sum[:])
		return secret, nil
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", err
	}
	if sub.Key, err = pair.PublicKey(); err != nil {
		return "", err
	}
	seed, err := pair.Seed()
	return string(seed), err
}

// explainIntegrator says what was made and how to use it.
func (e *environment) explainIntegrator(sub events.Subscriber, o integratorOptions, url, file string) {
	var may []string
	for _, f := range sub.Filters {
		may = append(may, f.String())
	}
	fmt.Fprintf(e.Stdout, "integrator %s may read %s, from event %d on\n", sub.Name, strings.Join(may, " and "), sub.After+1)
	fmt.Fprintf(e.Stdout, "its secret is in %s and nowhere else\n\n", file)
	auth := fmt.Sprintf(`authenticator: nkeyAuthenticator(readFileSync(%q).subarray(0, 58))`, file)
	opt := fmt.Sprintf("nats.NkeyOptionFromSeed(%q)", file)
	if o.password {
		auth = fmt.Sprintf(`user: %q, pass: readFileSync(%q, "utf8").trim()`, sub.Name, file)
		opt = fmt.Sprintf("nats.UserInfo(%q, password), nil", sub.Name)
	}
	fmt.Fprintf(e.Stdout, `// Go: github.com/nats-io/nats.go
as, err := %s
nc, err := nats.Connect(%q, as)
js, err := jetstream.New(nc)
consumer, err := js.Consumer(ctx, %q, %q)
reading, err := consumer.Consume(func(m jetstream.Msg) { fmt.Println(m.Subject(), string(m.Data())); m.Ack() })

// JavaScript: @nats-io/transport-node, @nats-io/jetstream
const nc = await connect({ servers: %q, %s });
const consumer = await jetstream(nc).consumers.get(%q, %q);
for await (const m of await consumer.consume()) { console.log(m.subject, m.string()); m.ack(); }

docs/subscribe.md tells more, and how to do it with the plain NATS protocol.
`, opt, url, historyStream, sub.Name, url, auth, historyStream, sub.Name)
}

func (e *environment) printIntegrators(all []events.SubscriberStatus) error {
	if len(all) == 0 {
		fmt.Fprintln(e.Stderr, "There are no integrators; `reprise integrator create` makes one.")
		return nil
	}
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tMAY READ\tDONE\tWAITING\tUNACKNOWLEDGED\tCONNECTIONS\tSEEN")
	for _, s := range all {
		var may []string
		for _, f := range s.Filters {
			may = append(may, f.String())
		}
		seen := "never"
		if !s.Seen.IsZero() {
			seen = s.Seen.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", s.Name, strings.Join(may, ","), s.Done, s.Pending, s.Unacknowledged, s.Connected, seen)
	}
	return w.Flush()
}

// askAll is ask for those who need more than the history.
func (e *environment) askAll(f func(*operatorConnection) error) error {
	if err := e.needsCluster("has no integrators and no deliveries"); err != nil {
		return err
	}
	nc, url, err := e.connectAsOperator()
	if err != nil {
		return err
	}
	defer nc.Close()
	return f(&operatorConnection{
		nats: nc, url: url,
		history:     historian.NewClient(nc, subjectPrefix),
		integrators: integrator.NewClient(nc, subjectPrefix),
	})
}
