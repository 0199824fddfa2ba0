// Package watchers has an API server bear many clients that watch the same objects.
//
// What upstream encodes, it encodes once for all who watch when it happens. But it
// gives each of them room for ten events, cuts off who falls behind by more, and
// makes and encodes every event anew for each who then comes back: a server that is
// pressed makes itself several times the work. Here all who watch the same share one
// watch of upstream's, and each may fall far behind it (Getter). What has gathered for
// one of them is sent in one piece (Batches).
//
// Only agents/api uses it. It changes nothing of what a watcher hears, nor of the order, and it holds no event
// back for the sake of those that might follow.
package watchers
