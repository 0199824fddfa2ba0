package proof

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reprise-run/reprise/events"
)

// The facts by which checkpoints are in the log itself.
const (
	Begun  = "checkpoint.begun"
	Signed = "checkpoint.signed"
)

// Record is what the log holds of a key and of the newest checkpoint that it
// signed: the status of the object.
type Record struct {
	// Checkpoint is the signed note.
	Checkpoint string `json:"checkpoint"`
	// Size and Time are those in it, for readers in a hurry.
	Size uint64    `json:"size"`
	Time time.Time `json:"time"`
}

// RefOf names the object under which the checkpoints of a key are recorded.
func RefOf(v note.Verifier) events.Ref {
	return events.Ref{Group: "reprise.run", Resource: "checkpoints", Name: fmt.Sprintf("%s-%08x", path.Base(v.Name()), v.KeyHash())}
}

// Changes are the events that record a checkpoint: with the key's beginning, if
// the object is not there yet.
func Changes(key string, begun bool, signed []byte, c Checkpoint) ([]events.Change, error) {
	v, err := note.NewVerifier(key)
	if err != nil {
		return nil, fmt.Errorf("the key of checkpoints cannot be read: %w", err)
	}
	ref := RefOf(v)
	sum := sha256.Sum256([]byte(key))
	uid := fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	var changes []events.Change
	if !begun {
		object, err := canonical(map[string]any{
			"apiVersion": "reprise.run/v1", "kind": "Checkpoint",
			"metadata": map[string]any{"name": ref.Name, "uid": uid},
			"spec":     map[string]any{"origin": v.Name(), "key": key},
		})
		if err != nil {
			return nil, err
		}
		changes = append(changes, events.Change{Type: Begun, Object: ref, UID: uid, Data: object, Optional: true})
	}
	status, err := canonical(Record{Checkpoint: string(signed), Size: c.Size, Time: c.Time})
	if err != nil {
		return nil, err
	}
	patch := events.AppendPatch(nil, []events.Op{{Op: "add", Path: "/status", Value: status}})
	return append(changes, events.Change{Type: Signed, Object: ref, UID: uid, Data: patch, Optional: true}), nil
}

func canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return events.Canonical(raw)
}

// Recorded returns the signed checkpoint that an event records, nil if it records
// none.
func Recorded(e *events.Event) ([]byte, error) {
	if e.Type != Signed || !strings.HasPrefix(e.Object.GroupResource(), "checkpoints.") {
		return nil, nil
	}
	ops, err := events.ParsePatch(e.Data)
	if err != nil {
		return nil, err
	}
	var r Record
	for _, op := range ops {
		if op.Path == "/status" {
			err = json.Unmarshal(op.Value, &r)
		}
	}
	if err == nil && r.Checkpoint == "" {
		err = fmt.Errorf("event %d records a checkpoint, and holds none", e.Sequence)
	}
	return []byte(r.Checkpoint), err
}
