package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// rotation is how often logs are looked at.
	rotation = 10 * time.Second
	// maxLog is how long a log may get, and maxLogs how many of a container are
	// kept, the one that is written included; as upstream.
	maxLog  = 10 << 20
	maxLogs = 5
)

// rotate keeps the logs of running containers from growing without end.
func (a *Agent) rotate(ctx context.Context) {
	for a.sleep(ctx, rotation) {
		logs, err := filepath.Glob(filepath.Join(a.node.Logs, "*", "*", "*.log"))
		if err != nil {
			return
		}
		for _, path := range logs {
			info, err := os.Stat(path)
			if err != nil || info.Size() < maxLog {
				continue
			}
			if err := a.rotateLog(ctx, path); err != nil && ctx.Err() == nil {
				a.log.Warn("cannot rotate a log; trying again", "log", path, "error", err)
			}
		}
	}
}

// rotateLog puts a log aside and has the runtime begin another.
func (a *Agent) rotateLog(ctx context.Context, path string) error {
	id, err := a.writer(ctx, path)
	if err != nil || id == "" {
		return err
	}
	aside := path + "." + a.o.Clock.Now().UTC().Format("20060102-150405")
	if err := os.Rename(path, aside); err != nil {
		return err
	}
	if _, err := a.o.Containers.ReopenContainerLog(ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: id}); err != nil {
		return errors.Join(fmt.Errorf("the container runtime does not begin another: %w", err), os.Rename(aside, path))
	}
	old, err := filepath.Glob(path + ".*")
	if err != nil {
		return err
	}
	slices.Sort(old)
	for len(old) > maxLogs-1 {
		if err := os.Remove(old[0]); err != nil {
			return err
		}
		old = old[1:]
	}
	return nil
}

// writer is the running container that writes a log, empty if none does.
func (a *Agent) writer(ctx context.Context, path string) (string, error) {
	dir := filepath.Dir(path)
	pod := filepath.Base(filepath.Dir(dir))
	uid := pod[strings.LastIndexByte(pod, '_')+1:]
	all, err := a.attempts(ctx, types.UID(uid), filepath.Base(dir))
	if err != nil || len(all) == 0 || !all[0].running || filepath.Base(path) != fmt.Sprintf("%d.log", all[0].attempt) {
		return "", err
	}
	return all[0].id, nil
}
