package main

import (
	"strings"
	"testing"
)

// What a newcomer mistypes is answered with what to type.
func TestWrongWordsAreAnswered(t *testing.T) {
	for line, want := range map[string]string{
		"histroy pod/web": "(did you mean history?); `reprise --help`",
		"nonsense":        "there is no command \"nonsense\"; `reprise --help`",
		"images lst":      "(did you mean list?); `reprise images --help`",
		"history":         "Say for example: reprise history pod/web-1",
		"why pod web":     "reprise why pod/web",
		"why":             "@812",
		"events -o xml":   "none of wide, json",
	} {
		var out strings.Builder
		m := &Main{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out}
		err := m.Run(t.Context(), append([]string{"--data-dir", t.TempDir(), "--run-dir", t.TempDir()}, strings.Fields(line)...))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("reprise %s: %v", line, err)
		}
	}
}
