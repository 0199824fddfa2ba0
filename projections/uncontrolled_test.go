package projections_test

import (
	"strings"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Uncontrolled lists what has no controller, whatever other owners it has, and
// follows changes of that.
func TestUncontrolled(t *testing.T) {
	s := projections.NewState()
	put := func(namespace, name, owners string) {
		ref := events.Ref{Resource: "pods", Namespace: namespace, Name: name}
		raw := `{"metadata":{"name":"` + name + `","ownerReferences":[` + owners + `],"uid":"` + name + `"}}`
		s.Put(projections.NewEntry(ref, "", 1, 1, []byte(raw)))
	}
	check := func(want string) {
		t.Helper()
		var names []string
		for e := range s.View().Uncontrolled("", "pods", "shop") {
			names = append(names, e.Ref.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("uncontrolled are %q, want %q", got, want)
		}
	}
	put("shop", "alone", "")
	put("shop", "controlled", `{"controller":true,"uid":"x"}`)
	put("shop", "owned", `{"uid":"x"}`)
	put("elsewhere", "alone", "")
	check("alone owned")
	put("shop", "alone", `{"controller":true,"uid":"x"}`)
	put("shop", "controlled", "")
	check("controlled owned")
	s.Remove(events.Ref{Resource: "pods", Namespace: "shop", Name: "owned"})
	check("controlled")
	put("elsewhere", "sly", `{"controller":true,"uid":"//pods/shop"}`)
	check("controlled")
}
