package api_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	restclient "k8s.io/client-go/rest"
)

// BenchmarkWatchers has a pod change while 500 clients watch it, 50 to a connection, as
// fast as it can. It reports the CPU time of the process for each event that one of them
// has heard: the server's share, and what a client needs to read and not look at it.
func BenchmarkWatchers(b *testing.B) {
	const clients, perConnection = 500, 50
	s := start(b)
	s.namespace(b, "bench")
	pod, err := s.CoreV1().Pods("bench").Create(b.Context(), benchPod("watched"), metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var heard sync.WaitGroup
	var client restclient.Interface
	for i := range clients {
		if i%perConnection == 0 {
			client = connection(s.admin)
		}
		stream, err := client.Get().Namespace("bench").Resource("pods").
			VersionedParams(&metav1.ListOptions{Watch: true, ResourceVersion: pod.ResourceVersion}, scheme.ParameterCodec).Stream(ctx)
		if err != nil {
			b.Fatal(err)
		}
		heard.Go(func() {
			defer stream.Close()
			if err := discard(stream, b.N); err != nil {
				b.Error(err)
			}
		})
	}
	b.ResetTimer()
	before := cpu(b)
	for i := range b.N {
		step := fmt.Appendf(nil, `{"metadata":{"annotations":{"n":"%d"}}}`, i)
		if _, err := s.CoreV1().Pods("bench").Patch(b.Context(), pod.Name, types.MergePatchType, step, metav1.PatchOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	heard.Wait()
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N)/clients, "cpu-us/event")
}

// connection is a client in protobuf with a connection of its own.
func connection(c *restclient.Config) restclient.Interface {
	c = restclient.CopyConfig(c)
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf
	c.Dial = (&net.Dialer{}).DialContext
	return kubernetes.NewForConfigOrDie(c).CoreV1().RESTClient()
}

// discard reads events, which begin with their length.
func discard(stream io.Reader, events int) error {
	in := bufio.NewReaderSize(stream, 32<<10)
	for range events {
		var length [4]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return err
		}
		if _, err := in.Discard(int(binary.BigEndian.Uint32(length[:]))); err != nil {
			return err
		}
	}
	return nil
}
