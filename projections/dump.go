package projections

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// Dump writes all that a state holds, a line an object, in order: two states are
// the same exactly if their dumps are.
//
//	at 812
//	pods/shop/web-1  uid 5c1f  created 800  seq 812  {"apiVersion":"v1",...}
func Dump(w io.Writer, r Reader) error {
	out := bufio.NewWriterSize(w, 1<<16)
	fmt.Fprintf(out, "at %d\n", r.Sequence())
	for resource := range r.Resources() {
		for e := range r.List(resource.Group, resource.Resource, "") {
			fmt.Fprintf(out, "%s\n", e.Line())
		}
	}
	return out.Flush()
}

// Line is the version of the object as Dump prints it.
func (e *Entry) Line() string {
	return fmt.Sprintf("%s  uid %s  created %d  seq %d  %s", e.Ref, e.UID, e.Created, e.Sequence, e.Raw)
}

// Hash is the SHA-256 of the dump, in hex.
func Hash(r Reader) string {
	h := sha256.New()
	if err := Dump(h, r); err != nil {
		panic("a hash does not fail to write: " + err.Error())
	}
	return hex.EncodeToString(h.Sum(nil))
}
