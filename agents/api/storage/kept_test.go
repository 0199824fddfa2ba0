package storage

import (
	"testing"
	"time"
)

func TestKeptStates(t *testing.T) {
	var k kept
	start := time.Unix(1_000_000, 0)
	has := func(revision uint64) bool { _, ok := k.at(revision); return ok }
	k.add(past{revision: 10}, start)
	k.add(past{revision: 20}, start.Add(time.Minute))
	k.add(past{revision: 10}, start.Add(4*time.Minute)) // It is as old as it was.
	k.forget(start.Add(keptFor), 30)
	if !has(10) || !has(20) || has(15) {
		t.Errorf("kept: %v, %v, %v", has(10), has(20), has(15))
	}
	k.forget(start.Add(keptFor+time.Second), 30)
	if has(10) || !has(20) {
		t.Error("a state is kept for another time than it should be")
	}
	k.forget(start.Add(keptFor), 10) // A view may be older than what is kept.
	k.forget(start.Add(keptFor), 20+keptChanges)
	if !has(20) {
		t.Error("a state is forgotten too early")
	}
	k.forget(start.Add(keptFor), 20+keptChanges+1)
	if has(20) {
		t.Error("a state is kept though much has happened since")
	}
	for i := range uint64(keptStates + 1) {
		k.add(past{revision: 100 + i}, start)
	}
	if has(100) || !has(101) || len(k.states) != keptStates {
		t.Errorf("%d states are kept", len(k.states))
	}
}
