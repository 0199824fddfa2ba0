package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// writer is a client that makes, changes and removes objects of its own.
type writer struct {
	name   string
	random *rand.Rand
	client kubernetes.Interface
	book   *registry
	n      int
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.n++
		var err error
		switch w.random.IntN(8) {
		case 0, 1:
			err = w.secret(ctx)
		case 2:
			err = w.lease(ctx)
		default:
			err = w.configMap(ctx)
		}
		if err != nil {
			pause(ctx, 20*time.Millisecond)
		}
	}
}

func (w *writer) payload() string { return fmt.Sprintf("%s-%d-%x", w.name, w.n, w.random.Uint64()) }

// configMap makes one, and then may change it and remove it.
func (w *writer) configMap(ctx context.Context) error {
	maps := w.client.CoreV1().ConfigMaps(namespace)
	meta := metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", w.name, w.n)}
	name := "configmap " + meta.Name
	for step := range 1 + w.random.IntN(3) {
		content := w.payload()
		o := &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"payload": content}}
		var err error
		switch {
		case step == 0:
			w.book.begin(name, content)
			o, err = maps.Create(ctx, o, metav1.CreateOptions{})
		case step == 1:
			w.book.begin(name, content)
			o, err = maps.Update(ctx, o, metav1.UpdateOptions{})
		default:
			content = absent
			w.book.begin(name, content)
			err = maps.Delete(ctx, meta.Name, metav1.DeleteOptions{})
		}
		version := ""
		if err == nil {
			version = o.ResourceVersion
		}
		if w.book.end(name, content, version, err) != acknowledged {
			return err
		}
	}
	return nil
}

// secret makes one: its key must last as long as it does.
func (w *writer) secret(ctx context.Context) error {
	return w.make("secret", func(m metav1.ObjectMeta, content string) (metav1.Object, error) {
		o := &corev1.Secret{ObjectMeta: m, Data: map[string][]byte{"payload": []byte(content)}}
		return w.client.CoreV1().Secrets(namespace).Create(ctx, o, metav1.CreateOptions{})
	})
}

// lease makes one, which is in the log of volatile objects.
func (w *writer) lease(ctx context.Context) error {
	return w.make("lease", func(m metav1.ObjectMeta, content string) (metav1.Object, error) {
		o := &coordinationv1.Lease{ObjectMeta: m, Spec: coordinationv1.LeaseSpec{HolderIdentity: &content}}
		return w.client.CoordinationV1().Leases(namespace).Create(ctx, o, metav1.CreateOptions{})
	})
}

// make has an object created, and writes down what was asked and what was answered.
func (w *writer) make(kind string, create func(m metav1.ObjectMeta, content string) (metav1.Object, error)) error {
	content, m := w.payload(), metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", w.name, w.n)}
	name := kind + " " + m.Name
	w.book.begin(name, content)
	made, err := create(m, content)
	version := ""
	if err == nil {
		version = made.GetResourceVersion()
	}
	w.book.end(name, content, version, err)
	return err
}
