package storage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unsafe"

	"github.com/reprise-run/reprise/events"
)

// Nearly all that upstream stores are API objects in JSON, which go into the log
// as they are. What is not (test data, and values that somebody configured to be
// encrypted before storage) goes in as an opaque object that carries the bytes.
const (
	opaqueVersion = "opaque.storage.reprise.run/v1"
	opaqueKind    = "Opaque"
)

var opaqueStart = []byte(`{"apiVersion":"` + opaqueVersion + `","kind":"` + opaqueKind + `",`)

type opaque struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Value      []byte `json:"value"`
}

// toLog returns the document that the log keeps for a value, and the UID of the
// object that it is, if it has one. The document is the value if that is canonical.
func toLog(value []byte) (doc []byte, uid string, err error) {
	if len(value) > 0 && value[0] == '{' {
		doc := value
		if !events.IsCanonical(value) {
			doc, err = events.Canonical(value)
		}
		if kind, ok := events.Text(events.Lookup(doc, "kind")); err == nil && ok && kind != "" {
			uid, _ := events.Text(events.Lookup(doc, "metadata", "uid"))
			return doc, uid, nil
		}
	}
	doc, err = json.Marshal(opaque{APIVersion: opaqueVersion, Kind: opaqueKind, Value: value})
	return doc, "", err
}

// fromLog returns the value that a canonical document of the log stands for.
func fromLog(doc []byte) ([]byte, error) {
	if !bytes.HasPrefix(doc, opaqueStart) {
		return doc, nil
	}
	var o opaque
	if err := json.Unmarshal(doc, &o); err != nil {
		return nil, fmt.Errorf("the opaque value in the log cannot be read: %w", err)
	}
	return o.Value, nil
}

// same says whether two documents are one.
func same(a, b []byte) bool {
	return len(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b)
}
