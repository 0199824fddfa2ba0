package historian_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/historian"
)

// exporting serves exports alone.
func exporting(t *testing.T, export func(context.Context, historian.ExportRange, io.Writer) error) *historian.Client {
	t.Helper()
	nc := connect(t)
	stop, err := historian.Serve(nc, "test", historian.Source{Export: export})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return historian.NewClient(nc, "test")
}

func TestExport(t *testing.T) {
	content := make([]byte, 5<<20+7)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	broken := errors.New("the log is damaged at sequence 7")
	c := exporting(t, func(_ context.Context, r historian.ExportRange, w io.Writer) error {
		for rest := content[:r.To]; len(rest) > 0; {
			n := min(len(rest), 100_000)
			if _, err := w.Write(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		if r.From > 0 {
			return broken
		}
		return nil
	})
	for _, n := range []int{0, 1, 512 << 10, 1 << 20, len(content)} {
		var got bytes.Buffer
		if err := c.Export(t.Context(), historian.ExportRange{To: uint64(n)}, &got); err != nil || !bytes.Equal(got.Bytes(), content[:n]) {
			t.Errorf("%d bytes came as %d: %v", n, got.Len(), err)
		}
		if err := c.Export(t.Context(), historian.ExportRange{From: 1, To: uint64(n)}, io.Discard); err == nil || err.Error() != broken.Error() {
			t.Errorf("an export that fails after %d bytes: %v", n, err)
		}
	}
}

// TestExportIsPulled shows that what nobody fetches is not made, that a client which
// goes frees its place, and that there are only so many places.
func TestExportIsPulled(t *testing.T) {
	made := make(chan int, 1000)
	ended := make(chan error, 10)
	c := exporting(t, func(_ context.Context, _ historian.ExportRange, w io.Writer) error {
		for n := 0; ; n++ {
			if _, err := w.Write(make([]byte, 512<<10)); err != nil {
				ended <- err
				return err
			}
			made <- n
		}
	})
	stopped := errors.New("the client has seen enough")
	for range 6 { // more often than there are places
		if err := c.Export(t.Context(), historian.ExportRange{}, writer(func([]byte) error { return stopped })); !errors.Is(err, stopped) {
			t.Fatal(err)
		}
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Fatal("the server goes on with an export that nobody wants")
		}
	}
	if n := len(made); n > 6*10 {
		t.Errorf("%d pieces were made and six were fetched", n)
	}
	blocked, held := make(chan struct{}), make(chan struct{})
	for range 4 {
		go func() {
			_ = c.Export(t.Context(), historian.ExportRange{}, writer(func([]byte) error { held <- struct{}{}; <-blocked; return stopped }))
		}()
		<-held
	}
	if err := c.Export(t.Context(), historian.ExportRange{}, io.Discard); err == nil || !strings.Contains(err.Error(), "under way already") {
		t.Errorf("one export too many: %v", err)
	}
	close(blocked)
}

type writer func([]byte) error

func (w writer) Write(p []byte) (int, error) { return len(p), w(p) }

func TestNothingToExport(t *testing.T) {
	if err := exporting(t, nil).Export(t.Context(), historian.ExportRange{}, io.Discard); err == nil || !strings.Contains(err.Error(), "cannot be exported") {
		t.Errorf("got %v", err)
	}
}
