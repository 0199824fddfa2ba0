package seal

import (
	"bytes"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memvault"
)

// edited is what comes of an edit of an object whose key is lost.
type edited struct {
	ref      events.Ref
	doc      string
	edit     string   // a patch of what is shown
	same     []string // the sealed values that stay, as "data password"
	resealed bool     // with a new key
	refused  string   // what the refusal says
	without  []string
}

func (c edited) check(t *testing.T) {
	k := keeperOf(t, memvault.New(time.Now), configOf(t, "secrets, '*.example.com'", "one"))
	before, _, err := k.Seal(t.Context(), c.ref, "u-1", nil, []byte(c.doc))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.erase(t.Context(), c.ref, "u-1"); err != nil {
		t.Fatal(err)
	}
	shown, err := k.Reveal(t.Context(), c.ref, "u-1", before)
	if err != nil {
		t.Fatal(err)
	}
	edited, err := events.Apply(shown, []byte(c.edit))
	if err != nil {
		t.Fatal(err)
	}
	after, made, err := k.Seal(t.Context(), c.ref, "u-1", before, edited)
	if c.refused != "" {
		if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), c.refused) || made {
			t.Errorf("made %v, %v", made, err)
		}
		return
	}
	if err != nil || made != c.resealed || bytes.Contains(after, []byte(Erased)) || !events.IsCanonical(after) {
		t.Fatalf("made %v, %v: %s", made, err, after)
	}
	for _, path := range c.same {
		names := strings.Fields(path)
		if was, is := events.Lookup(before, names...), events.Lookup(after, names...); was == nil || !bytes.Equal(was, is) {
			t.Errorf("%s was %s and is %s", path, was, is)
		}
	}
	for _, text := range c.without {
		if bytes.Contains(after, []byte(text)) {
			t.Errorf("%s is in %s", text, after)
		}
	}
	if opened, err := k.Open(t.Context(), c.ref, "u-1", after); c.resealed && (err != nil || bytes.Contains(opened, []byte("hunter2"))) {
		t.Errorf("written anew it is %s, %v", opened, err)
	}
}

// TestUnreadableValuesAreNotOverwritten edits what is shown of objects whose keys are
// lost.
func TestUnreadableValuesAreNotOverwritten(t *testing.T) {
	const patchLabel = `[{"op":"add","path":"/metadata/labels","value":{"edited":"yes"}}]`
	for name, c := range map[string]edited{
		"a label is put on a Secret": {
			ref: db, doc: secretDoc, edit: patchLabel,
			same: []string{"data password", "data empty", "data user", "metadata annotations " + lastApplied},
		},
		"a key is taken out of a Secret": {
			ref: db, doc: secretDoc, edit: `[{"op":"remove","path":"/data/user"}]`,
			same: []string{"data password", "data empty"}, without: []string{`"user"`},
		},
		"a Secret is written anew": {
			ref: db, doc: secretDoc, edit: `[{"op":"replace","path":"/data","value":{"password":"bmV3"}}]`, resealed: true,
			without: []string{lastApplied},
		},
		"one key of a Secret is written anew": {
			ref: db, doc: secretDoc, edit: `[{"op":"replace","path":"/data/password","value":"bmV3"}]`,
			refused: "secrets/shop/db has values that cannot be read any more (/data/empty, /data/user), and is shown without them: to write others (/data/password), write all of them anew",
		},
		"a label is put on a custom resource": {
			ref: widget, doc: widgetDoc, edit: patchLabel,
			same: []string{"data a", "spec", "status", "metadata managedFields"},
		},
		"a manager comes to a custom resource": {
			ref: widget, doc: widgetDoc, edit: `[{"op":"replace","path":"/metadata/managedFields","value":[{"fieldsV1":{"f:metadata":{"v:\"hunter2\"":{}}},"manager":"other"}]}]`,
			same: []string{"data a", "spec", "status"}, without: []string{"hunter2"},
		},
		"the data of a custom resource stay out": {
			ref: widget, doc: widgetDoc, edit: `[{"op":"remove","path":"/data"}]`, same: []string{"data a", "data b"},
		},
		"the status of a custom resource is written anew": {
			ref: widget, doc: widgetDoc, edit: `[{"op":"add","path":"/status","value":{"seen":"x"}}]`,
			refused: "to write others (/status)",
		},
		"a custom resource is written anew but for its status": {
			ref: widget, doc: widgetDoc, edit: `[{"op":"add","path":"/spec","value":{}},{"op":"add","path":"/data","value":{"a":2,"b":""}}]`, resealed: true,
			without: []string{"status"},
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			c.check(t)
		})
	}
}

// TestKeysThatComeBack writes what was read when the vault was lost, when it is back.
func TestKeysThatComeBack(t *testing.T) {
	v := memvault.New(time.Now)
	config := configOf(t, "secrets", "one")
	k := keeperOf(t, v, config)
	before, _, err := k.Seal(t.Context(), db, "u-1", nil, []byte(secretDoc))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := keeperOf(t, memvault.New(time.Now), config).Reveal(t.Context(), db, "u-1", before)
	if err != nil || !bytes.Contains(shown, []byte(Erased)) {
		t.Fatalf("%s, %v", shown, err)
	}
	if _, _, err := k.Seal(t.Context(), db, "u-1", before, shown); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "read it again") {
		t.Errorf("%v", err)
	}
	anew, err := events.Apply(shown, []byte(`[{"op":"replace","path":"/data","value":{"password":"bmV3"}}]`))
	if err != nil {
		t.Fatal(err)
	}
	if after, _, err := k.Seal(t.Context(), db, "u-1", before, anew); err != nil || bytes.Contains(after, []byte(Erased)) {
		t.Errorf("%s, %v", after, err)
	}
}
