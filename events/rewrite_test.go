package events

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzRewrite holds the way without a decoder to the one with it: what it writes
// is the same, and it takes nothing that the decoder refuses.
func FuzzRewrite(f *testing.F) {
	for _, doc := range []string{
		`{"b":1,"a":{"d":null,"c":[]}}`, " [ 1 , 2.50, 1E5, -0, 1e+2 ]\n", `{"a":1,"a":2,"a":{"x":"y"}}`, `{"a":1,}`, `[1,]`, `[,1]`, `{,}`,
		`"\u0041\/\u00e9\u2028<&>\u001f\b\f\n\r\t\"\\"`, "\"a\xffb\\ud800\"", `{"é":1,"z":2,"a\"":3,"a":4,"":5,"a/":6}`,
		`"\ud83d\ude00\uDE00x\u00"`, `"\x"`, `"\`, `{"a":1}x`, "\"\x01\"", `{"\u0061":1,"a":2}`, ` true `, `{"a" : [ { } , { "b" : 1 , "a" : 2 } ] }`,
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		r := rewriter{checker: checker{doc: doc}}
		ok := r.document()
		want, err := decoded(doc)
		if ok && (err != nil || !bytes.Equal(r.out, want)) {
			t.Fatalf("%q is rewritten as %q; decoded it is %q, %v", doc, r.out, want, err)
		}
		if !ok && err == nil && len(doc) < 100 {
			t.Fatalf("%q is not rewritten; decoded it is %q", doc, want)
		}
	})
}

// BenchmarkCanonical writes a pod as Go's encoder left it.
func BenchmarkCanonical(b *testing.B) {
	doc, err := json.Marshal(map[string]any{
		"z": map[string]any{"spec": map[string]any{"image": "registry.example.com/web:1", "args": []string{"a", "b"}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	doc = append([]byte(`{"y":`), append(bytes.Repeat(append(doc[:len(doc)-1:len(doc)-1], []byte(`,"b":[`)...), 30), append([]byte("1"), bytes.Repeat([]byte("]}"), 30)...)...)...)
	doc = append(doc, `,"x":1}`...)
	for name, f := range map[string]func([]byte) ([]byte, error){"rewritten": Canonical, "decoded": decoded} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f(doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
