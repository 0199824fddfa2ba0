package configuration

import (
	"encoding/json"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/reprise-run/reprise/agents/scheduler"
)

// TestParse runs the transcripts: a profile's YAML, or with "whole" all of the
// configuration, and the policy that it comes to, or why it is refused.
func TestParse(t *testing.T) {
	datadriven.RunTest(t, "testdata/parse.txt", func(t *testing.T, d *datadriven.TestData) string {
		text := d.Input
		if d.Cmd == "profile" {
			text = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- " + indent(d.Input)
		}
		p, err := Parse([]byte(text))
		if err != nil {
			return "refused: " + err.Error() + "\n"
		}
		if _, err := scheduler.NewWith("", p); err != nil {
			t.Errorf("what is parsed makes no scheduler: %v", err)
		}
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := scheduler.ParsePolicy(out); err != nil {
			t.Errorf("%s is not read back: %v", out, err)
		} else if text, _ := json.Marshal(again); string(text) != string(out) {
			t.Errorf("%s is read back as %s", out, text)
		}
		return string(out) + "\n"
	})
}

func indent(text string) string {
	out := ""
	for _, r := range text {
		out += string(r)
		if r == '\n' {
			out += "  "
		}
	}
	return out
}
