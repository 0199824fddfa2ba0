package bus

import "testing"

func TestNodesOnTheBus(t *testing.T) {
	n, err := NewNode("reprise", "n1.example.com")
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{n.Call("ping"), n.Call("feed") + ".x"} {
		if node, ok := Caller(subject); !ok || node != "n1.example.com" {
			t.Errorf("%s is called by %q, %v", subject, node, ok)
		}
	}
	for _, subject := range []string{n.Feed(), n.Up("x"), "reprise-bus.call.n1"} {
		if node, ok := Caller(subject); ok {
			t.Errorf("%s is called by %q", subject, node)
		}
	}
	for _, bad := range []string{"", "a_b", "*", "a b", "A", "a>"} {
		if _, err := NewNode("reprise", bad); err == nil {
			t.Errorf("a node may be named %q", bad)
		}
	}
}
