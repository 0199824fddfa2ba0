package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

func TestUpstreamLogKeepsOnlyErrors(t *testing.T) {
	for level, shown := range map[slog.Level]int{slog.LevelWarn: 1, slog.LevelDebug: 5} {
		var out strings.Builder
		life, end := context.WithCancel(t.Context())
		takeUpstreamLog(life, slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}), &out)
		klog.Errorf("The manifest file is empty, ignoring.")
		klog.ErrorS(errors.New(`namespaces "kube-system" not found`), "Failed to ensure lease exists, will retry")
		klog.LoggerWithValues(klog.Background(), "node", "n1").Error(errors.New(`namespaces "kube-system" not found`), "Cannot")
		klog.Error("the disk is full")
		end()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			klog.Fatal("a hook was cut short")
			t.Error("what is fatal to upstream has gone on")
		}()
		<-ended // and the process has not.
		klog.ClearLogger()
		klog.OsExit = os.Exit
		if got := strings.Count(out.String(), "\n"); got != shown {
			t.Errorf("at level %v it shows %d records, not %d:\n%s", level, got, shown, &out)
		}
		if !strings.Contains(out.String(), `level=ERROR msg="the disk is full"`) {
			t.Errorf("it hides an error:\n%s", &out)
		}
	}
}
