package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What a newcomer mistypes is answered with what to type.
func TestWrongWordsAreAnswered(t *testing.T) {
	for line, want := range map[string]string{
		"histroy pod/web": "(did you mean history?); `reprise --help`",
		"nonsense":        "there is no command \"nonsense\"; `reprise --help`",
		"images lst":      "(did you mean list?); `reprise images --help`",
		"history":         "Say for example: reprise history pod/web-1",
		"history pod web": "reprise history pod/web",
		"why pod web":     "reprise why pod/web",
		"why":             "@812",
		"events -o xml":   "none of wide, json",

		"events --to https://example.com --filter pod": "--filter \"pod\" is no type of event",

		"history -A -n shop":                      "contradict each other",
		"history pod/web --limit -1":              "less than none",
		"history pod/web --reverse -f":            "contradict each other",
		"history -A --since 1h --from @12":        "both say where to begin",
		"history -A --type pod":                   "as 'pod.*'",
		"why @12 --limit 0":                       "would show nothing",
		"history -A --type pod.bund":              "nothing is ever \"bund\"; there are",
		"events --filter pod.b*":                  "nothing is ever \"b*\"",
		"events --filter pod.":                    "is no type of event",
		"integrator list -o wide":                 "neither json nor yaml",
		"events dead-letters list -o text":        "neither json nor yaml",
		"events --from yesterday":                 "--from: \"yesterday\" names no moment",
		"events --to http://127.0.0.1:1/ -o json": "leave one of them out",
		"events --to nonsense":                    "neither a moment nor an address",
		"events --since 1h --from @12":            "both say where to begin",
		"events --since -1h":                      "write it without a sign",
		"events --since yesterday":                "as 10m, 2h30m or 3d; --from takes a time",
		"history -A --since 2026-11-26":           "--from takes a time",
		"rewind":                                  "Say for example: reprise rewind -15m",
		"history -A --to 25:00":                   "--to: \"25:00\" names no moment",
		"events --lmit 3":                         "`reprise events --help`",
		"why pod/web -A":                          "`reprise why --help`",
		"export x.reprise":                        "--offline reads the data directory",
		"diff":                                    "Say for example: reprise diff --from -15m",
		"diff --from -15m -l a==b==c":             "--selector",
		"diff --from -15m -o text":                "wide, json or yaml",
	} {
		var out strings.Builder
		m := &Main{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out}
		err := m.Run(t.Context(), append([]string{"--data-dir", t.TempDir(), "--run-dir", t.TempDir()}, strings.Fields(line)...))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("reprise %s: %v", line, err)
		}
	}
}

// The help says of a flag what follows it in a word.
func TestFlagsAreExplained(t *testing.T) {
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); strings.Contains(name, " ") {
				t.Errorf("%s --%s %s: what stands in backquotes is taken for the flag's value", c.CommandPath(), f.Name, name)
			}
		})
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	for _, c := range commands(&environment{Main: NewMain()}) {
		check(c)
	}
}

// The shell proposes what a flag takes, and no files where none are read.
func TestCompletion(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	for line, want := range map[string]string{
		"history -o ": "json\n", "events -o ": "yaml\n", "history --type ": "pod.bound\n", "events --filter ": "container.exited\n",
		"why ": ":6\n", "history ": ":6\n", "diff ": ":6\n", "integrator delete ": ":4\n", "rewind ": ":4\n",
		"kubectl get -o ": "jsonpath\n", "kubectl ro": "rollout\t", "rewind now -- kubectl descr": "describe\t", "rewind now -- ": ":0\n",
		"integrator list -o ": "yaml\n", "events dead-letters list -o ": "yaml\n",
	} {
		var out strings.Builder
		m := &Main{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out}
		if err := m.Run(t.Context(), slices.Concat([]string{"__complete", "--data-dir", t.TempDir(), "--run-dir", t.TempDir()}, strings.Split(line, " "))); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("reprise %s: %v\n%s", line, err, out.String())
		}
	}
}
