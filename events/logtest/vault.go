package logtest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/reprise-run/reprise/events"
)

// RunVault checks an implementation of events.Vault. open returns a new, empty
// vault and cleans up after it.
func RunVault(t *testing.T, open func(t *testing.T) events.Vault) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, v events.Vault)
	}{
		{"what is kept comes back", keep},
		{"a name is given once", keepOnce},
		{"one of many who create wins", keepRivals},
		{"what is erased is gone and the name free", erase},
		{"a replacement replaces what was read", replace},
		{"odd names are refused", oddNames},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, v events.Vault) (out []string) {
	t.Helper()
	for k, err := range v.All(t.Context()) {
		must(t, err)
		out = append(out, fmt.Sprintf("%s=%s", k.Name, k.Value))
	}
	slices.Sort(out)
	return out
}

func keep(t *testing.T, v events.Vault) {
	if _, err := v.Get(t.Context(), "a"); !errors.Is(err, events.ErrNotKept) {
		t.Errorf("out of an empty vault: %v", err)
	}
	must(t, v.Create(t.Context(), "a", []byte("1")))
	must(t, v.Create(t.Context(), "b-2_x", []byte("\x00\xff")))
	k, err := v.Get(t.Context(), "a")
	if err != nil || string(k.Value) != "1" || k.Name != "a" || k.Since.IsZero() || k.Revision == 0 {
		t.Errorf("%+v, %v", k, err)
	}
	if got := names(t, v); !slices.Equal(got, []string{"a=1", "b-2_x=\x00\xff"}) {
		t.Errorf("%q", got)
	}
}

func keepOnce(t *testing.T, v events.Vault) {
	must(t, v.Create(t.Context(), "a", []byte("1")))
	if err := v.Create(t.Context(), "a", []byte("2")); !errors.Is(err, events.ErrKept) {
		t.Errorf("created twice: %v", err)
	}
	if got := names(t, v); !slices.Equal(got, []string{"a=1"}) {
		t.Errorf("%q", got)
	}
}

func keepRivals(t *testing.T, v events.Vault) {
	const rivals = 8
	won := make(chan error, rivals)
	for i := range rivals {
		go func() { won <- v.Create(t.Context(), "a", fmt.Append(nil, i)) }()
	}
	winners := 0
	for range rivals {
		switch err := <-won; {
		case err == nil:
			winners++
		case !errors.Is(err, events.ErrKept):
			t.Error(err)
		}
	}
	if winners != 1 {
		t.Errorf("%d have won", winners)
	}
}

func erase(t *testing.T, v events.Vault) {
	must(t, v.Create(t.Context(), "a", []byte("1")))
	must(t, v.Create(t.Context(), "b", []byte("2")))
	must(t, v.Erase(t.Context(), "a"))
	must(t, v.Erase(t.Context(), "a"))
	must(t, v.Erase(t.Context(), "never"))
	if _, err := v.Get(t.Context(), "a"); !errors.Is(err, events.ErrNotKept) {
		t.Errorf("an erased value: %v", err)
	}
	must(t, v.Create(t.Context(), "a", []byte("3")))
	if got := names(t, v); !slices.Equal(got, []string{"a=3", "b=2"}) {
		t.Errorf("%q", got)
	}
}

func replace(t *testing.T, v events.Vault) {
	must(t, v.Create(t.Context(), "a", []byte("1")))
	first, err := v.Get(t.Context(), "a")
	must(t, err)
	must(t, v.Replace(t.Context(), first, []byte("2")))
	if err := v.Replace(t.Context(), first, []byte("3")); !errors.Is(err, events.ErrNotKept) {
		t.Errorf("an old value was replaced: %v", err)
	}
	second, err := v.Get(t.Context(), "a")
	if err != nil || string(second.Value) != "2" {
		t.Errorf("%+v, %v", second, err)
	}
	must(t, v.Erase(t.Context(), "a"))
	if err := v.Replace(t.Context(), second, []byte("4")); !errors.Is(err, events.ErrNotKept) {
		t.Errorf("an erased value came back: %v", err)
	}
	if got := names(t, v); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

func oddNames(t *testing.T, v events.Vault) {
	for _, name := range []string{"", "a.b", "a b", "*", ">", "A", "é"} {
		if err := v.Create(t.Context(), name, []byte("1")); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}
