package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reprise-run/reprise/cmd/load"
)

// What cannot be carried out is refused before the first turn, by a word that says why.
func TestParse(t *testing.T) {
	for _, c := range []struct{ args, wrong string }{
		{"", ""},
		{"-scenario deploy:20/5,failure:20/5 -sides reprise,upstream -rounds 2 -probes 0 -upstream-env GOGC=200", ""},
		{"-scenario deploy:550/5", ""},
		{"-scenario failure -profile p", "nothing would be written"},
		{"-sides upstream -profile p", "nothing would be written"},
		{"-profile p -profiled 1ms", "at least a second"},
		{"-scenario deploy:551/5", "5 nodes have room for 550 pods, 110 each"},
		{"-scenario failure:1000/10", "9 nodes that are left have room for 990 pods"},
		{"-scenario deploy,burn", `scenario "burn"`},
		{"-scenario deploy,", `scenario ""`},
		{"-rounds 0", "-rounds 0"},
		{"-rounds -1", "-rounds -1"},
		{"-probes -1", "--probes -1"},
		{"-probes NaN", "--probes NaN"},
		{"-idle -1s", "--idle -1s"},
		{"-within 0", "--within 0s"},
		{"-sides reprise,reprise", "reprise comes twice"},
		{"-sides nomad", `no side "nomad"`},
		{"-upstream-env FOO", `"FOO" is no variable`},
		{"-upstream-env =1", `"=1" is no variable`},
		{"deploy:20/5", `"deploy:20/5" is no flag`},
		{"-scenarios deploy", "bench -h lists"},
	} {
		_, err := parse(strings.Fields(c.args), io.Discard)
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v, want %q", c.args, err, c.wrong)
		}
	}
}

func TestHelp(t *testing.T) {
	var out strings.Builder
	if _, err := parse([]string{"-h"}, &out); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "-server string") {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestPrepare(t *testing.T) {
	dist, dir := t.TempDir(), t.TempDir()
	prepare := func(args ...string) error {
		b, err := parse(append([]string{"-dist", dist}, args...), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if b.dir = dir; onDisk(dir) != nil { // tests may run where nothing lasts
			b.dir = "/proc"
		}
		return b.prepare()
	}
	check := func(err error, wrong string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%v, want %q", err, wrong)
		}
	}
	check(prepare(), "run `make build`")
	for _, below := range []string{"bin/reprise", "peer/etcd"} {
		path := filepath.Join(dist, below)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	check(prepare("-sides", "reprise,upstream"), "peer/kube-apiserver: no such file or directory: `make bench-peer` builds it")
	check(prepare("-o", filepath.Join(dir, "none", "o")), "-o: cannot write")
	check(prepare("-profile", dir), "-profile: cannot write")
	kept := filepath.Join(dir, "kept")
	if err := os.WriteFile(kept, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prepare("-o", kept); err != nil {
		t.Error(err)
	}
	if text, _ := os.ReadFile(kept); string(text) != "before" {
		t.Errorf("before there are results the old ones are %q", text)
	}
}

// Of what was not reached only that of Reprise is a failure.
func TestOurs(t *testing.T) {
	results := []*load.Result{{Side: "upstream", Missing: "5 of 10 pods"}, {Side: "reprise"}}
	if err := load.Unreached(ours(results)); err != nil {
		t.Error(err)
	}
	results[1].Missing = "6 of 10 pods"
	if err := load.Unreached(ours(results)); err == nil || strings.Contains(err.Error(), "5 of 10") {
		t.Error(err)
	}
}
