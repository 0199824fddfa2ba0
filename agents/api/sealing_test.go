package api_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/reprise-run/reprise/agents/api"
	"github.com/reprise-run/reprise/agents/api/seal"
	"github.com/reprise-run/reprise/agents/api/seal/sealtest"
	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memvault"
)

// readable says whether an event of the log shows a text, as it is or in base64.
func (r *running) readable(t testing.TB, after uint64, text string) bool {
	t.Helper()
	for _, e := range r.history.After(t, after) {
		for _, form := range []string{text, base64.RawStdEncoding.EncodeToString([]byte(text))} {
			if bytes.Contains(e.Data, []byte(form)) || bytes.Contains(e.Note, []byte(form)) {
				t.Logf("event %d: %s", e.Sequence, e.Data)
				return true
			}
		}
	}
	return false
}

func kept(t testing.TB, v events.Vault) (n int) {
	t.Helper()
	for _, err := range v.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestSecretsAreSealed leads Secrets through their life at the API: what clients
// see is what they wrote, and the log never shows it.
func TestSecretsAreSealed(t *testing.T) {
	vault := memvault.New(time.Now)
	keeper := sealtest.Keeper(t, vault, sealtest.Config(t, "secrets, configmaps", "one"))
	s := start(t, func(o *api.Options) { o.Sealer = keeper })
	ctx := t.Context()
	s.namespace(t, "shop")
	secrets := s.CoreV1().Secrets("shop")
	w, err := secrets.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	db, err := secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Labels: map[string]string{"app": "shop"}},
		StringData: map[string]string{"password": "hunter2hunter2"}, Data: map[string][]byte{"user": []byte("somebody-nice")},
	}, metav1.CreateOptions{})
	if err != nil || string(db.Data["password"]) != "hunter2hunter2" {
		t.Fatal(db, err)
	}
	apply := fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db"},"data":{"token":%q}}`, base64.StdEncoding.EncodeToString([]byte("applied-server-side")))
	if _, err := secrets.Patch(ctx, "db", types.ApplyPatchType, []byte(apply), metav1.PatchOptions{FieldManager: "test"}); err != nil {
		t.Fatal(err)
	}
	before := s.history.Sequence()
	if _, err := secrets.Patch(ctx, "db", types.ApplyPatchType, []byte(apply), metav1.PatchOptions{FieldManager: "test"}); err != nil {
		t.Fatal(err)
	}
	for _, e := range s.history.After(t, before) { // The server does things of its own meanwhile.
		if e.Object.Resource == "secrets" {
			t.Errorf("a change of nothing was appended: %s", e.Headline())
		}
	}
	if _, err := secrets.Patch(ctx, "db", types.StrategicMergePatchType, []byte(`{"stringData":{"password":"correct-horse-battery"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.Update(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Type: "kubernetes.io/tls"}, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("the type of a Secret was changed: %v", err)
	}
	got, err := secrets.Get(ctx, "db", metav1.GetOptions{})
	if err != nil || string(got.Data["password"]) != "correct-horse-battery" || string(got.Data["token"]) != "applied-server-side" || string(got.Data["user"]) != "somebody-nice" {
		t.Errorf("%v, %v", got, err)
	}
	list, err := secrets.List(ctx, metav1.ListOptions{LabelSelector: "app=shop", FieldSelector: "type=Opaque", Limit: 1})
	if err != nil || len(list.Items) != 1 || string(list.Items[0].Data["password"]) != "correct-horse-battery" {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := s.CoreV1().ConfigMaps("shop").Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"k": "configured-so"}, BinaryData: map[string][]byte{"b": []byte("binary-thing")},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := secrets.Delete(ctx, "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []watch.EventType{watch.Added, watch.Modified, watch.Modified, watch.Deleted} {
		if e := <-w.ResultChan(); e.Type != want || string(e.Object.(*corev1.Secret).Data["user"]) != "somebody-nice" {
			t.Errorf("watched %s %v, want %s", e.Type, e.Object, want)
		}
	}
	for _, text := range []string{"hunter2hunter2", "somebody-nice", "applied-server-side", "correct-horse-battery", "configured-so", "binary-thing"} {
		if s.readable(t, 0, text) {
			t.Errorf("%s is readable in the log", text)
		}
	}
	facts := ""
	for _, e := range s.about(t, 0, "secrets") {
		facts += e.Fact() + " "
	}
	if facts != "created data-changed data-changed deleted " {
		t.Errorf("the Secret was %s", facts)
	}
	for k, err := range vault.All(ctx) {
		if err != nil || bytes.Contains(k.Value, []byte(`"name":"db"`)) {
			t.Errorf("the vault keeps %s, %v", k.Value, err)
		}
	}
	if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "db"}}, metav1.CreateOptions{}); err != nil {
		t.Errorf("a Secret of the same name: %v", err)
	}
}

// TestKeysOfWritesThatFail looks for keys of what was never written.
func TestKeysOfWritesThatFail(t *testing.T) {
	vault := memvault.New(time.Now)
	keeper := sealtest.Keeper(t, vault, sealtest.Config(t, "secrets", "one"))
	s := start(t, func(o *api.Options) { o.Sealer = keeper })
	s.namespace(t, "shop")
	secrets := s.CoreV1().Secrets("shop")
	one := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "db"}, StringData: map[string]string{"a": "b"}}
	if _, err := secrets.Create(t.Context(), one, metav1.CreateOptions{DryRun: []string{"All"}}); err != nil || kept(t, vault) != 0 {
		t.Errorf("a dry run: %d keys, %v", kept(t, vault), err)
	}
	if _, err := secrets.Create(t.Context(), one, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.Create(t.Context(), one, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) || kept(t, vault) != 1 {
		t.Errorf("created twice: %d keys, %v", kept(t, vault), err)
	}
	// Its finalizer keeps the object, and so its key.
	if _, err := secrets.Patch(t.Context(), "db", types.MergePatchType, []byte(`{"metadata":{"finalizers":["example.com/wait"]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := secrets.Delete(t.Context(), "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := secrets.Get(t.Context(), "db", metav1.GetOptions{}); err != nil || string(got.Data["a"]) != "b" {
		t.Errorf("while it waits for its end: %v, %v", got, err)
	}
	if _, err := secrets.Patch(t.Context(), "db", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := kept(t, vault); n != 0 {
		t.Errorf("%d keys, and no Secret", n)
	}
}

// TestClearSecretsAreSealedAtStart starts a server that seals on the log of one that
// did not.
func TestClearSecretsAreSealedAtStart(t *testing.T) {
	r := &running{history: storagetest.NewLog(t, false), volatile: storagetest.NewLog(t, true)}
	dir := t.TempDir()
	stop := r.run(t, dir)
	r.namespace(t, "shop")
	old := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "old"}, StringData: map[string]string{"password": "hunter2hunter2"}}
	if _, err := r.CoreV1().Secrets("shop").Create(t.Context(), old, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stop()
	before := r.history.Sequence()
	keeper := sealtest.Keeper(t, memvault.New(time.Now), sealtest.Config(t, "secrets", "one"))
	var said strings.Builder
	for range 2 {
		stop = r.run(t, dir, func(o *api.Options) {
			o.Sealer, o.Log = keeper, slog.New(slog.NewTextHandler(&said, nil))
		})
		got, err := r.CoreV1().Secrets("shop").Get(t.Context(), "old", metav1.GetOptions{})
		if err != nil || string(got.Data["password"]) != "hunter2hunter2" {
			t.Errorf("%v, %v", got, err)
		}
		stop()
	}
	found := r.about(t, before, "secrets")
	if len(found) != 1 || found[0].Type != "secret.sealed" || r.readable(t, before, "hunter2hunter2") {
		t.Errorf("%v", found)
	}
	if strings.Count(said.String(), "objects lay unencrypted") != 1 || !strings.Contains(said.String(), "objects=1") {
		t.Errorf("it said %s", &said)
	}
}

// TestAnAlteredSecretHidesNoOther reads and deletes a Secret whose value was altered in
// the log, among others.
func TestAnAlteredSecretHidesNoOther(t *testing.T) {
	keeper := sealtest.Keeper(t, memvault.New(time.Now), sealtest.Config(t, "secrets", "one"))
	s := start(t, func(o *api.Options) { o.Sealer = keeper })
	ctx := t.Context()
	s.namespace(t, "shop")
	secrets := s.CoreV1().Secrets("shop")
	for _, name := range []string{"bad", "good"} {
		if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"a": "secret-of-" + name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	view := s.history.View()
	good := view.Get(events.Ref{Resource: "secrets", Namespace: "shop", Name: "good"})
	bad := view.Get(events.Ref{Resource: "secrets", Namespace: "shop", Name: "bad"})
	// What is sealed for one object does not open in another.
	patch := fmt.Sprintf(`[{"op":"replace","path":"/data/a","value":%s}]`, events.Lookup(good.Raw, "data", "a"))
	if _, err := s.history.Propose(ctx, events.Proposal{Actor: events.Actor{Kind: "api"}, Basis: view.Sequence(), Decision: events.Decision{Changes: []events.Change{{
		Type: "secret.data-changed", Object: bad.Ref, UID: bad.UID, Data: []byte(patch),
	}}}}); err != nil {
		t.Fatal(err)
	}
	list, err := s.CoreV1().Secrets("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.namespace=shop"})
	if err != nil || len(list.Items) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	if got := list.Items[1]; string(got.Data["a"]) != "secret-of-good" {
		t.Errorf("the other one is %v", got)
	}
	got, err := secrets.Get(ctx, "bad", metav1.GetOptions{})
	if err != nil || len(got.Data["a"]) != 0 || !strings.Contains(got.Annotations[seal.Unreadable], "or delete it") {
		t.Errorf("it is %v, %v", got, err)
	}
	if _, err := secrets.Patch(ctx, "bad", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}); err != nil {
		t.Errorf("a label: %v", err)
	}
	if err := secrets.Delete(ctx, "bad", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if list, err := secrets.List(ctx, metav1.ListOptions{}); err != nil || len(list.Items) != 1 {
		t.Errorf("after its deletion: %v, %v", list, err)
	}
	if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bad"}, StringData: map[string]string{"a": "anew"}}, metav1.CreateOptions{}); err != nil {
		t.Errorf("made anew: %v", err)
	}
}
