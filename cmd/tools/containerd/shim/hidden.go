package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// hiddenMark begins what stands for a text that comes from a Secret, in a
// container's variables and arguments: "<mark><index>:<name>:<dir>", for an element
// of the list in the file of that name and directory. The node's agent has written
// that to memory (agents/node/volumes, Hidden), because containerd writes its
// containers' specifications to a database on the disk.
const hiddenMark = "reprise.run/hidden:"

type hiddenFile struct {
	Name  string   `json:"name"`
	Texts []string `json:"texts"`
}

// Create has runc see the texts that the container's specification stands for, and
// nobody after it.
func (s service) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	path := filepath.Join(r.Bundle, "config.json")
	spec, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(spec, []byte(hiddenMark)) {
		return s.TTRPCTaskService.Create(ctx, r)
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(spec, &whole); err != nil {
		return nil, fmt.Errorf("the container's specification cannot be read: %w", err)
	}
	var texts []string
	if whole["process"], texts, err = reveal(whole["process"]); err != nil {
		return nil, err
	}
	revealed, err := json.Marshal(whole)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, revealed, 0o600); err != nil {
		return nil, err
	}
	answer, err := s.TTRPCTaskService.Create(ctx, r)
	if err = scrubbed(err, texts); err == nil {
		s.told.put(r.ID, "", texts)
	}
	if again := os.WriteFile(path, spec, 0o600); again != nil && err == nil {
		err = again
	}
	return answer, err
}

// Exec is Create's for another process of a container, whose variables are those of
// the container.
func (s service) Exec(ctx context.Context, r *taskapi.ExecProcessRequest) (*emptypb.Empty, error) {
	if spec := r.GetSpec(); spec != nil && bytes.Contains(spec.Value, []byte(hiddenMark)) {
		value, texts, err := reveal(spec.Value)
		if err != nil {
			return nil, err
		}
		r.Spec = &anypb.Any{TypeUrl: spec.TypeUrl, Value: value}
		s.told.put(r.ID, r.ExecID, texts)
	}
	answer, err := s.TTRPCTaskService.Exec(ctx, r)
	return answer, scrubbed(err, s.told.of(r.ID, r.ExecID))
}

// Start is where runc starts the process of an Exec, and may say why it cannot.
func (s service) Start(ctx context.Context, r *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	answer, err := s.TTRPCTaskService.Start(ctx, r)
	return answer, scrubbed(err, s.told.of(r.ID, r.ExecID))
}

// Delete ends what there is to remember of a process.
func (s service) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	answer, err := s.TTRPCTaskService.Delete(ctx, r)
	if err == nil {
		s.told.put(r.ID, r.ExecID, nil)
	}
	return answer, err
}

// told are the texts that runc was told, by container and process.
type told struct {
	mu    sync.Mutex
	texts map[[2]string][]string
}

func (t *told) put(id, exec string, texts []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(texts) == 0 {
		delete(t.texts, [2]string{id, exec})
		return
	}
	t.texts[[2]string{id, exec}] = texts
}

func (t *told) of(id, exec string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.texts[[2]string{id, exec}]
}

// scrubbed is an error without the texts that runc was told: it quotes the command
// that it cannot run, and containerd keeps what it says, and tells others.
func scrubbed(err error, texts []string) error {
	if err == nil || len(texts) == 0 {
		return err
	}
	said := status.Convert(err)
	message := said.Message()
	for _, text := range texts {
		quoted := strconv.Quote(text)
		message = strings.ReplaceAll(message, quoted, scrub)
		// A text of a few letters is no secret, and part of many words.
		if inner := quoted[1 : len(quoted)-1]; len(text) > 3 {
			message = strings.ReplaceAll(strings.ReplaceAll(message, inner, scrub), text, scrub)
		}
	}
	if message == said.Message() {
		return err
	}
	return status.Error(said.Code(), message)
}

const scrub = "(from a Secret)"

// reveal puts texts in the place of what stands for them in a process of the OCI
// runtime specification, and returns them, the longest first.
func reveal(process []byte) ([]byte, []string, error) {
	var p map[string]json.RawMessage
	if err := json.Unmarshal(process, &p); err != nil {
		return nil, nil, fmt.Errorf("the process's specification cannot be read: %w", err)
	}
	var texts []string
	for _, name := range []string{"args", "env"} {
		var list []string
		if p[name] == nil {
			continue
		}
		if err := json.Unmarshal(p[name], &list); err != nil {
			return nil, nil, fmt.Errorf("%s of the process cannot be read: %w", name, err)
		}
		for i, item := range list {
			variable := ""
			if name == "env" {
				key, value, _ := strings.Cut(item, "=")
				variable, item = key+"=", value
			}
			text, err := hidden(item)
			if err != nil {
				return nil, nil, err
			}
			if text != item && text != "" {
				texts = append(texts, text)
			}
			list[i] = variable + text
		}
		var err error
		if p[name], err = json.Marshal(list); err != nil {
			return nil, nil, err
		}
	}
	slices.SortFunc(texts, func(a, b string) int { return len(b) - len(a) })
	revealed, err := json.Marshal(p)
	return revealed, texts, err
}

// hidden returns the text that another stands for, or that other if it stands for
// itself. Whoever writes such a text into a pod gets what a file says that contains
// its own name, which cannot be guessed; so it is one that was meant for the pod, or
// that the pod has written itself.
func hidden(item string) (string, error) {
	rest, ok := strings.CutPrefix(item, hiddenMark)
	if !ok {
		return item, nil
	}
	parts := strings.SplitN(rest, ":", 3)
	if len(parts) < 3 || !filepath.IsAbs(parts[2]) || strings.ContainsRune(parts[1], '/') {
		return item, nil
	}
	index, err := strconv.Atoi(parts[0])
	if err != nil {
		return item, nil
	}
	text, err := readRegular(filepath.Join(parts[2], parts[1]))
	if err != nil {
		return "", fmt.Errorf("what a Secret gives to this container is no longer on the node: %w", err)
	}
	var f hiddenFile
	if json.Unmarshal(text, &f) != nil || f.Name != parts[1] || index < 0 || index >= len(f.Texts) {
		return "", fmt.Errorf("what a Secret gives to this container cannot be read in %s", parts[2])
	}
	return f.Texts[index], nil
}

// largest is more than the kernel takes of variables.
const largest = 16 << 20

// readRegular reads a file, and does not so much as open what is not one: to open a
// device does something, and the path is a pod's to write.
func readRegular(path string) ([]byte, error) {
	named, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer named.Close()
	if info, err := named.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", path)
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", named.Fd()), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, largest))
}
