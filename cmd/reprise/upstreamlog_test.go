package main

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

func TestUpstreamLogKeepsOnlyErrors(t *testing.T) {
	for level, shown := range map[slog.Level]int{slog.LevelWarn: 1, slog.LevelDebug: 4} {
		var out strings.Builder
		klog.SetSlogLogger(slog.New(upstreamLog{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})}))
		klog.Errorf("The manifest file is empty, ignoring.")
		klog.ErrorS(errors.New(`namespaces "kube-system" not found`), "Failed to ensure lease exists, will retry")
		klog.LoggerWithValues(klog.Background(), "node", "n1").Error(errors.New(`namespaces "kube-system" not found`), "Cannot")
		klog.Error("the disk is full")
		klog.ClearLogger()
		if got := strings.Count(out.String(), "\n"); got != shown {
			t.Errorf("at level %v it shows %d records, not %d:\n%s", level, got, shown, &out)
		}
		if !strings.Contains(out.String(), `level=ERROR msg="the disk is full"`) {
			t.Errorf("it hides an error:\n%s", &out)
		}
	}
}
