package events

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Filter chooses events by what they are about. "*" stands for any; the namespace
// "" is that of objects which are in none.
type Filter struct {
	Group, Resource, Namespace, Fact string
}

// String is the filter as a person reads it: pods.shop.*, deployments.apps.shop.scaled.
func (f Filter) String() string {
	resource := f.Resource
	if f.Group != "" {
		resource += "." + f.Group
	}
	namespace := f.Namespace
	if namespace == "" {
		namespace = "-"
	}
	return strings.Join([]string{resource, namespace, f.Fact}, ".")
}

// Matches says whether the event is one that the filter chooses.
func (f Filter) Matches(e *Event) bool {
	is := func(pattern, text string) bool { return pattern == "*" || pattern == text }
	return is(f.Group, e.Object.Group) && is(f.Resource, e.Object.Resource) &&
		is(f.Namespace, e.Object.Namespace) && is(f.Fact, e.Fact())
}

// Subscriber is somebody outside of the cluster who reads a part of its history,
// and nothing else, at a pace of their own.
type Subscriber struct {
	Name    string
	Filters []Filter
	// Key is the public half of the key by which the subscriber is known, or
	// Password the SHA-256 of its password in hexadecimal.
	Key, Password string
	// InOrder has the subscriber read by one connection at a time, and take an event
	// for acknowledged when a later one is. Half of what a subscriber costs is
	// acknowledgements.
	InOrder bool `json:",omitempty"`
	// After is the sequence after which the subscriber begins to read.
	After uint64
	// Created is when it was added.
	Created time.Time
}

// SubscriberStatus is how far a subscriber has come.
type SubscriberStatus struct {
	Subscriber
	// Done is the sequence up to which the subscriber has acknowledged all that
	// it was to read, and Delivered the last that was sent to it.
	Done, Delivered uint64
	// Unacknowledged is how many events were sent and not acknowledged yet, and
	// Pending how many wait to be sent.
	Unacknowledged, Pending uint64
	// Seen is when it last acknowledged or was sent an event.
	Seen time.Time
	// Connected is how many connections it has.
	Connected int
}

// Subscribers keeps the subscribers of a log and their positions. It outlives
// restarts. A subscriber that does not read costs nothing and finds its place
// again however late it comes back.
type Subscribers interface {
	// Add lets a subscriber read. It fails with ErrSubscriberExists if the name
	// is taken.
	Add(ctx context.Context, s Subscriber) error
	// Remove ends the subscriber's connections and forgets its position. It fails
	// with ErrNoSubscriber if there is none of the name.
	Remove(ctx context.Context, name string) error
	// List returns all, by name.
	List(ctx context.Context) ([]SubscriberStatus, error)
}

var (
	// ErrSubscriberExists says that the name is taken.
	ErrSubscriberExists = errors.New("there is a subscriber of that name already")
	// ErrNoSubscriber says that there is none of the name.
	ErrNoSubscriber = errors.New("there is no such subscriber")
)
