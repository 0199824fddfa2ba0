// Command go shows how a Go program subscribes to a cluster's events: it prints
// one line an event, acknowledges it, and goes on where it stopped when it is
// started again.
//
//	reprise integrator create billing --allow 'pods.shop.>'
//	go run ./docs/examples/subscribe/go nats://127.0.0.1:4222 billing billing.nk
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: go SERVER CONSUMER KEYFILE")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := subscribe(ctx, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

func subscribe(ctx context.Context, server, name, keyFile string) error {
	as, err := nats.NkeyOptionFromSeed(keyFile)
	if err != nil {
		return err
	}
	// Never give up: while the server is away, nothing is lost.
	nc, err := nats.Connect(server, as, nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	// The consumer is there already: whoever made the key made it too.
	consumer, err := js.Consumer(ctx, "REPRISE", name)
	if err != nil {
		return err
	}
	reading, err := consumer.Consume(func(m jetstream.Msg) {
		// The same event may come twice. Its id is its place in the log: 1, 2, 3.
		header := func(name string) string { return nats.Header(m.Headers())[name][0] }
		fmt.Println(header("ce-id"), header("ce-type"), header("ce-subject"), len(m.Data()))
		// Acknowledge when you are done with it, and not before.
		if err := m.Ack(); err != nil {
			log.Print(err)
		}
	}, jetstream.PullMaxMessages(100))
	if err != nil {
		return err
	}
	defer reading.Stop()
	<-ctx.Done()
	return nil
}
