package seal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memvault"
	"github.com/reprise-run/reprise/projections"
)

// hooked is a vault that a test can stop in the midst of a step.
type hooked struct {
	events.Vault
	create, erase, got func()
}

func run(f func()) {
	if f != nil {
		f()
	}
}

func (h *hooked) Create(ctx context.Context, name string, value []byte) error {
	run(h.create)
	return h.Vault.Create(ctx, name, value)
}

func (h *hooked) Erase(ctx context.Context, name string) error {
	run(h.erase)
	return h.Vault.Erase(ctx, name)
}

func (h *hooked) Get(ctx context.Context, name string) (events.Kept, error) {
	kept, err := h.Vault.Get(ctx, name)
	run(h.got)
	return kept, err
}

// TestReadersDoNotBringBackKeys reads an object while its key is erased: before it is,
// and after it was got from the vault.
func TestReadersDoNotBringBackKeys(t *testing.T) {
	for _, name := range []string{"before", "meanwhile"} {
		t.Run(name, func(t *testing.T) {
			v := &hooked{Vault: memvault.New(time.Now)}
			config := configOf(t, "secrets", "one")
			sealed, _, err := keeperOf(t, v, config).Seal(t.Context(), db, "u-1", nil, []byte(secretDoc))
			if err != nil {
				t.Fatal(err)
			}
			k := keeperOf(t, v, config)
			read := func() error {
				_, err := k.Open(t.Context(), db, "u-1", sealed)
				return err
			}
			if name == "before" {
				v.erase = func() {
					if err := read(); err != nil {
						t.Errorf("the key is still there: %v", err)
					}
				}
				k.Forget(t.Context(), db, "u-1")
			} else {
				v.got = func() { k.Forget(t.Context(), db, "u-1") }
				_ = read() // It has got the key, or has not.
				v.got = nil
			}
			if err := read(); !errors.Is(err, ErrErased) {
				t.Errorf("after the key was erased: %v", err)
			}
		})
	}
}

// TestRotationWaitsForKeysBeingMade rotates while a key is on its way to the vault,
// wrapped by the cluster key that is given up.
func TestRotationWaitsForKeysBeingMade(t *testing.T) {
	v := &hooked{Vault: memvault.New(time.Now)}
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := EnsureConfig(t.Context(), file, v, time.Now()); err != nil {
		t.Fatal(err)
	}
	first, err := ReadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	k := keeperOf(t, v, first)
	var over atomic.Bool
	rotated := make(chan error, 1)
	v.create = func() {
		go func() {
			_, err := RotateFile(file, time.Now().Add(time.Hour), func(c Config) (Rotation, error) { return k.Rotate(t.Context(), c) })
			over.Store(true)
			rotated <- err
		}()
		// Until the rotation is done, or waits for this.
		for !over.Load() && k.making.TryRLock() {
			k.making.RUnlock()
			runtime.Gosched()
		}
	}
	sealed, _, err := k.Seal(t.Context(), db, "u-1", nil, []byte(secretDoc))
	if err := errors.Join(err, <-rotated); err != nil {
		t.Fatal(err)
	}
	second, err := ReadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := keeperOf(t, v, second).Open(t.Context(), db, "u-1", sealed); err != nil || string(opened) != secretDoc {
		t.Errorf("%s, %v", opened, err)
	}
}

// TestRotateTwiceInASecond makes two keys of one name.
func TestRotateTwiceInASecond(t *testing.T) {
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	v, now := memvault.New(time.Now), time.Now()
	if err := EnsureConfig(t.Context(), file, v, now); err != nil {
		t.Fatal(err)
	}
	config, err := ReadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	k := keeperOf(t, v, config)
	if _, _, err := k.Seal(t.Context(), db, "u-1", nil, []byte(secretDoc)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		done, err := RotateFile(file, now, func(c Config) (Rotation, error) { return k.Rotate(t.Context(), c) })
		if err != nil || done.Rewrapped != 1 {
			t.Fatal(done, err)
		}
	}
	if config, err = ReadConfig(file); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Options{Vault: v, Config: config}); err != nil {
		t.Error(err)
	}
}

// TestRotateKeepsWhatPeopleWrote does not touch a file that was changed by hand.
func TestRotateKeepsWhatPeopleWrote(t *testing.T) {
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := EnsureConfig(t.Context(), file, memvault.New(time.Now), time.Now()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "[secrets]", "[secrets, configmaps]", 1)
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = RotateFile(file, time.Now(), func(Config) (Rotation, error) { return Rotation{}, nil })
	if err == nil || !strings.Contains(err.Error(), "--encryption-config") {
		t.Errorf("it was rotated: %v", err)
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != changed {
		t.Errorf("the file is now %s, %v", now, err)
	}
}

// TestRotateWhatIsNoLongerListed gives up a cluster key after its resource.
func TestRotateWhatIsNoLongerListed(t *testing.T) {
	v := memvault.New(time.Now)
	sealed, _, err := keeperOf(t, v, configOf(t, "secrets, '*.example.com'", "one")).Seal(t.Context(), widget, "u-2", nil, []byte(widgetDoc))
	if err != nil {
		t.Fatal(err)
	}
	k := keeperOf(t, v, configOf(t, "secrets", "one"))
	if done, err := k.Rotate(t.Context(), configOf(t, "secrets", "two", "one")); err != nil || done.Rewrapped != 1 {
		t.Fatal(done, err)
	}
	if opened, err := keeperOf(t, v, configOf(t, "secrets", "two")).Open(t.Context(), widget, "u-2", sealed); err != nil || string(opened) != widgetDoc {
		t.Errorf("%s, %v", opened, err)
	}
}

// TestUnreadableIsNotErased fails the vault: nothing is said to have been destroyed.
func TestUnreadableIsNotErased(t *testing.T) {
	v := memvault.New(time.Now)
	config := configOf(t, "secrets", "one")
	sealed, _, err := keeperOf(t, v, config).Seal(t.Context(), db, "u-1", nil, []byte(secretDoc))
	if err != nil {
		t.Fatal(err)
	}
	k := keeperOf(t, away{v}, config)
	e := projections.NewEntry(db, "u-1", 1, 1, sealed)
	shown, err := k.RevealEntry(e)
	if err != nil || !strings.Contains(string(shown), Unreadable) || strings.Contains(string(shown), Erased) {
		t.Errorf("%s, %v", shown, err)
	}
	if told := k.fed(e); told != nil {
		t.Errorf("nodes are told %s", told.Raw)
	}
}

// away is a vault that cannot be asked for a key.
type away struct{ events.Vault }

func (away) Get(context.Context, string) (events.Kept, error) {
	return events.Kept{}, errors.New("the vault does not answer")
}
