package seal

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memvault"
)

func configOf(t testing.TB, resources string, keys ...string) Config {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [%s]\n  providers:\n  - secretbox:\n      keys:\n", resources)
	for _, k := range keys {
		fmt.Fprintf(&b, "      - {name: %s, secret: %s}\n", k, secretOf(k))
	}
	c, err := parseConfig([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func secretOf(key string) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(key), keySize)[:keySize])
}

func keeperOf(t testing.TB, v events.Vault, c Config) *Keeper {
	t.Helper()
	k, err := New(t.Context(), Options{Vault: v, Config: c, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var (
	db     = events.Ref{Resource: "secrets", Namespace: "shop", Name: "db"}
	widget = events.Ref{Group: "example.com", Resource: "widgets", Namespace: "shop", Name: "w"}
)

const (
	secretDoc = `{"apiVersion":"v1","data":{"empty":"","password":"aHVudGVyMg==","user":"YWRtaW4="},"kind":"Secret","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"stringData\":{\"password\":\"hunter2\"}}\n","team":"a"},"labels":{"app":"shop"},"managedFields":[{"fieldsV1":{"f:data":{"f:password":{}}},"manager":"kubectl"}],"name":"db","namespace":"shop","uid":"u-1"},"type":"Opaque"}`
	widgetDoc = `{"apiVersion":"example.com/v1","data":{"a":1,"b":"<&>"},"kind":"Widget","metadata":{"managedFields":[{"fieldsV1":{"f:spec":{"f:tags":{"v:\"hunter2\"":{}}}},"manager":"kubectl"}],"name":"w","namespace":"shop","uid":"u-2"},"none":null,"spec":{"tags":["hunter2"]},"status":{"seen":"hunter2"}}`
)

func TestRoundTrip(t *testing.T) {
	k := keeperOf(t, memvault.New(time.Now), configOf(t, "secrets, '*.example.com'", "one"))
	for _, c := range []struct {
		ref      events.Ref
		uid, doc string
		readable []string
	}{
		{db, "u-1", secretDoc, []string{`"password":"sealed/`, `"empty":"sealed/`, `"team":"a"`, `"app":"shop"`, `"type":"Opaque"`, `"f:password"`}},
		{widget, "u-2", widgetDoc, []string{`"a":"sealed/`, `"spec":"sealed/`, `"status":"sealed/`, `"none":null`, `"fieldsV1":"sealed/`}},
	} {
		sealed, made, err := k.Seal(t.Context(), c.ref, c.uid, nil, []byte(c.doc))
		if err != nil || !made {
			t.Fatal(made, err)
		}
		for _, text := range []string{"hunter2", "aHVudGVyMg", "YWRtaW4"} {
			if bytes.Contains(sealed, []byte(text)) {
				t.Errorf("%s is readable in %s", text, sealed)
			}
		}
		for _, text := range c.readable {
			if !bytes.Contains(sealed, []byte(text)) {
				t.Errorf("%s is not in %s", text, sealed)
			}
		}
		again, made, err := k.Seal(t.Context(), c.ref, c.uid, nil, []byte(c.doc))
		if err != nil || made || !bytes.Equal(sealed, again) {
			t.Errorf("sealed again, it is another: %v, made %v\n%s", err, made, again)
		}
		opened, err := k.Open(t.Context(), c.ref, c.uid, sealed)
		if err != nil || string(opened) != c.doc {
			t.Errorf("opened it is %s, %v", opened, err)
		}
	}
}

func TestEqualValuesLookDifferent(t *testing.T) {
	k := keeperOf(t, memvault.New(time.Now), configOf(t, "secrets", "one"))
	doc := []byte(`{"apiVersion":"v1","data":{"a":"aHVudGVyMg==","b":"aHVudGVyMg=="},"kind":"Secret","metadata":{}}`)
	seen := map[string]bool{}
	for _, uid := range []string{"u-1", "u-2"} {
		sealed, _, err := k.Seal(t.Context(), db, uid, nil, doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"a", "b"} {
			seen[string(events.Lookup(sealed, "data", key))] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("four values in four places look like %d", len(seen))
	}
}

func TestChangesAreSmall(t *testing.T) {
	k := keeperOf(t, memvault.New(time.Now), configOf(t, "secrets", "one"))
	before, _, err := k.Seal(t.Context(), db, "u-1", nil, []byte(secretDoc))
	if err != nil {
		t.Fatal(err)
	}
	after, _, err := k.Seal(t.Context(), db, "u-1", nil, []byte(strings.Replace(secretDoc, "aHVudGVyMg==", "aHVudGVyMw==", 1)))
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := events.Command(db, "u-1", before, after)
	if err != nil {
		t.Fatal(err)
	}
	ops, err := events.ParsePatch(c.Data)
	if err != nil || len(ops) != 1 || ops[0].Path != "/data/password" || c.Type != "secret.data-changed" {
		t.Errorf("%s %s, %v", c.Type, c.Data, err)
	}
}

func TestWhatIsMovedDoesNotOpen(t *testing.T) {
	k := keeperOf(t, memvault.New(time.Now), configOf(t, "secrets", "one"))
	sealed, _, err := k.Seal(t.Context(), db, "u-1", nil, []byte(secretDoc))
	if err != nil {
		t.Fatal(err)
	}
	other := events.Ref{Resource: "secrets", Namespace: "evil", Name: "mine"}
	if _, _, err := k.Seal(t.Context(), other, "u-9", nil, []byte(secretDoc)); err != nil {
		t.Fatal(err)
	}
	swapped, err := events.ApplyOps(sealed, []events.Op{{Op: "replace", Path: "/data/user", Value: events.Lookup(sealed, "data", "password")}})
	if err != nil {
		t.Fatal(err)
	}
	for what, open := range map[string]func() ([]byte, error){
		"to another object":          func() ([]byte, error) { return k.Open(t.Context(), other, "u-9", sealed) },
		"to another object's uid":    func() ([]byte, error) { return k.Open(t.Context(), other, "u-1", sealed) },
		"to another place":           func() ([]byte, error) { return k.Open(t.Context(), db, "u-1", swapped) },
		"to an object without a key": func() ([]byte, error) { return k.Open(t.Context(), db, "u-3", sealed) },
	} {
		if doc, err := open(); err == nil {
			t.Errorf("moved %s it opens: %s", what, doc)
		}
	}
}

func TestErased(t *testing.T) {
	v := memvault.New(time.Now)
	k := keeperOf(t, v, configOf(t, "secrets, '*.example.com'", "one"))
	for _, c := range []struct {
		ref            events.Ref
		uid, doc, want string
	}{
		{db, "u-1", secretDoc, `{"apiVersion":"v1","data":{"empty":"","password":"","user":""},"kind":"Secret","metadata":{"annotations":{"reprise.run/erased":"the key was destroyed when the object was deleted; its values can no longer be read","team":"a"},"labels":{"app":"shop"},"managedFields":[{"fieldsV1":{"f:data":{"f:password":{}}},"manager":"kubectl"}],"name":"db","namespace":"shop","uid":"u-1"},"type":"Opaque"}`},
		{widget, "u-2", widgetDoc, `{"apiVersion":"example.com/v1","data":{},"kind":"Widget","metadata":{"annotations":{"reprise.run/erased":"the key was destroyed when the object was deleted; its values can no longer be read"},"managedFields":[{"fieldsV1":{},"manager":"kubectl"}],"name":"w","namespace":"shop","uid":"u-2"},"none":null}`},
	} {
		sealed, _, err := k.Seal(t.Context(), c.ref, c.uid, nil, []byte(c.doc))
		if err != nil {
			t.Fatal(err)
		}
		k.Forget(t.Context(), c.ref, c.uid)
		if _, err := k.Open(t.Context(), c.ref, c.uid, sealed); !errors.Is(err, ErrErased) {
			t.Errorf("opened after the key was erased: %v", err)
		}
		shown, err := k.Reveal(t.Context(), c.ref, c.uid, sealed)
		if err != nil || string(shown) != c.want {
			t.Errorf("it shows as %s, %v", shown, err)
		}
	}
	for kept := range v.All(t.Context()) {
		t.Errorf("the vault still has %s", kept.Name)
	}
}

func TestClusterKeys(t *testing.T) {
	v := memvault.New(time.Now)
	sealed, _, err := keeperOf(t, v, configOf(t, "secrets", "one")).Seal(t.Context(), db, "u-1", nil, []byte(secretDoc))
	if err != nil {
		t.Fatal(err)
	}
	// Another key, and the old one no longer there.
	if _, err := New(t.Context(), Options{Vault: v, Config: configOf(t, "secrets", "two"), Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, errNoClusterKey) || !strings.Contains(err.Error(), "secrets/shop/db") {
		t.Errorf("without the cluster key: %v", err)
	}
	// A new key before the old one: what was sealed opens, and is wrapped anew.
	k := keeperOf(t, v, configOf(t, "secrets", "two", "one"))
	if doc, err := k.Open(t.Context(), db, "u-1", sealed); err != nil || string(doc) != secretDoc {
		t.Errorf("%s, %v", doc, err)
	}
	wrapAll(t, k)
	k = keeperOf(t, v, configOf(t, "secrets", "two"))
	if doc, err := k.Open(t.Context(), db, "u-1", sealed); err != nil || string(doc) != secretDoc {
		t.Errorf("after the old key is gone: %s, %v", doc, err)
	}
}

func TestConfigs(t *testing.T) {
	const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
	const key = "aGVyZSBhcmUgdGhpcnR5LXR3byBieXRlcyBvZiBrZXk="
	const good = "  providers: [{aesgcm: {keys: [{name: a, secret: " + key + "}]}}, {identity: {}}]\n"
	for text, want := range map[string]string{
		head + "- resources: [secrets]\n" + good:                                                   "",
		head + "- resources: [secrets, configmaps, '*.example.com', 'w.example.org']\n" + good:     "",
		head + "- resources: ['*.*']\n" + good:                                                     "",
		head + "- resources: [configmaps]\n" + good:                                                "does not list secrets",
		head + "- resources: [secrets, pods]\n" + good:                                             "pods cannot be encrypted",
		head + "- resources: [secrets]\n  providers: [{identity: {}}]\n":                           "in the clear",
		head + "- resources: [secrets]\n  providers: [{aesgcm: {keys: [{name: a, secret: x}]}}]\n": "",
		"kind: Pod": "no EncryptionConfiguration",
	} {
		_, err := parseConfig([]byte(text))
		switch {
		case strings.Contains(text, "secret: x"):
			if err == nil || strings.Contains(err.Error(), "secret: x") {
				t.Errorf("a key that is none: %v", err)
			}
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
}

func FuzzCells(f *testing.F) {
	f.Add([]byte(`"aHVudGVyMg=="`), "/data/a", 3)
	f.Add([]byte(`"a\nb="`), "/data/a", 0)
	f.Add([]byte(`{"a":[1,2,null]}`), "/spec", 40)
	f.Add([]byte(`""`), "", 100)
	f.Add([]byte(`"YQ=="`), "/data/a", 12)
	k, err := newObjectKey(bytes.Repeat([]byte{7}, keySize), db, "u-1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value []byte, path string, at int) {
		sealed := k.seal(path, value)
		if !isSealed(sealed) || !bytes.Equal(sealed, k.seal(path, value)) {
			t.Fatalf("%s", sealed)
		}
		if _, err := base64.StdEncoding.DecodeString(string(sealed[1 : len(sealed)-1])); err != nil {
			t.Errorf("a Secret with it does not decode: %v", err)
		}
		if opened, err := k.open(path, sealed); err != nil || !bytes.Equal(opened, value) {
			t.Fatalf("%q became %q, %v", value, opened, err)
		}
		if _, err := k.open(path+"x", sealed); err == nil {
			t.Error("it opens in another place")
		}
		bad := bytes.Clone(sealed)
		i := len(sealedStart) + abs(at)%(len(bad)-len(sealedStart)-1)
		bad[i] ^= 1
		if opened, err := k.open(path, bad); err == nil {
			t.Errorf("with byte %d altered it opens: %q", i, opened)
		}
	})
}

func abs(i int) int { return max(i, -(i + 1)) }

func FuzzDocuments(f *testing.F) {
	f.Add([]byte(secretDoc))
	f.Add([]byte(widgetDoc))
	f.Add([]byte(`{"metadata":{"annotations":null,"managedFields":[{}]},"data":null,"a/b~c":{"x":1}}`))
	k := keeperOf(f, memvault.New(time.Now), configOf(f, "secrets, '*.example.com'", "one"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		doc, err := events.Canonical(doc)
		if err != nil || bytes.Contains(doc, []byte(mark)) {
			return
		}
		for _, r := range []events.Ref{db, widget} {
			sealed, _, err := k.Seal(context.Background(), r, "u-"+r.Resource, nil, doc)
			if err != nil {
				continue
			}
			opened, err := k.Open(context.Background(), r, "u-"+r.Resource, sealed)
			if err != nil || !bytes.Equal(opened, doc) {
				t.Errorf("%s\nbecame %s\nbecame %s, %v", doc, sealed, opened, err)
			}
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	big := `{"apiVersion":"v1","data":{"release":"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1, 2, 3}, 1<<20/3)) + `"},"kind":"Secret","metadata":{"uid":"u-1"}}`
	for name, doc := range map[string]string{"secret": secretDoc, "1MB": big} {
		k := keeperOf(b, memvault.New(time.Now), configOf(b, "secrets", "one"))
		sealed, _, err := k.Seal(b.Context(), db, "u-1", nil, []byte(doc))
		if err != nil {
			b.Fatal(err)
		}
		b.Run("seal/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := k.Seal(b.Context(), db, "u-1", nil, []byte(doc)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("open/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Open(b.Context(), db, "u-1", sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("first-use/"+name, func(b *testing.B) {
			for b.Loop() {
				k.keys.Remove(keyName("u-1"))
				if _, err := k.Open(b.Context(), db, "u-1", sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestWhatOnlyLooksSealed keeps what people write, also in what is not to be sealed.
func TestWhatOnlyLooksSealed(t *testing.T) {
	k := keeperOf(t, memvault.New(time.Now), configOf(t, "secrets", "one"))
	notes := events.Ref{Resource: "configmaps", Namespace: "shop", Name: "notes"}
	const doc = `{"apiVersion":"v1","data":{"a":"sealed/v001/AAAA","b":"plain"},"kind":"ConfigMap","metadata":{"name":"notes"}}`
	kept, made, err := k.Seal(t.Context(), notes, "u-3", nil, []byte(doc))
	if err != nil || !made {
		t.Fatal(made, err)
	}
	if shown, err := k.Reveal(t.Context(), notes, "u-3", kept); err != nil || string(shown) != doc {
		t.Errorf("%s, %v", shown, err)
	}
}
