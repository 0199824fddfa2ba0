package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/util/wait"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// namespace is where containerd keeps what its CRI service can see.
	namespace = "k8s.io"
	// visible is how long CRI may take to notice an import; it takes milliseconds.
	visible = 10 * time.Second
	// dialing is how long to wait for containerd's socket.
	dialing = 5 * time.Second
)

// Image is an image that a node has.
type Image struct {
	Names  []string
	Digest string
	Size   int64
}

// Import hands all images of an archive (of `reprise images build` or `docker
// save`, or an OCI layout as tar) to the containerd at socket, unpacks them, and
// returns when pods can use them.
func Import(ctx context.Context, socket, archive string) ([]Image, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, fmt.Errorf("cannot import images: %w", err)
	}
	defer f.Close()
	containerd, err := client.New(socket, client.WithDefaultNamespace(namespace), client.WithTimeout(dialing))
	if err != nil {
		return nil, unreachable(socket, err)
	}
	defer containerd.Close()
	ctx, done, err := containerd.WithLease(namespaces.WithNamespace(ctx, namespace))
	if err != nil {
		return nil, unreachable(socket, err)
	}
	// The lease keeps the content while it has no name yet; it would expire by itself.
	defer func() { _ = done(context.WithoutCancel(ctx)) }()
	imported, err := containerd.Import(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("cannot import images from %s: %w", archive, err)
	}
	var out []Image
	for _, image := range imported {
		handle := client.NewImage(containerd, image)
		if err := handle.Unpack(ctx, ""); err != nil {
			return nil, fmt.Errorf("cannot unpack image %s of %s: %w", image.Name, archive, err)
		}
		size, err := handle.Size(ctx)
		if err != nil {
			return nil, fmt.Errorf("cannot tell the size of image %s: %w", image.Name, err)
		}
		out = append(out, Image{Names: []string{image.Name}, Digest: image.Target.Digest.String(), Size: size})
	}
	return out, awaitVisible(ctx, socket, out)
}

// awaitVisible returns when CRI knows the images: it follows containerd's events
// a moment behind.
func awaitVisible(ctx context.Context, socket string, imported []Image) error {
	service, done, err := dial(socket)
	if err != nil {
		return err
	}
	defer done()
	for _, image := range imported {
		name := image.Names[0]
		err := wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, visible, true, func(ctx context.Context) (bool, error) {
			answer, err := service.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
			return answer.GetImage() != nil, err
		})
		if err != nil {
			return fmt.Errorf("image %s is imported, but pods cannot use it yet: %w", name, err)
		}
	}
	return nil
}

// List returns the images that pods on the containerd at socket can use, by name.
func List(ctx context.Context, socket string) ([]Image, error) {
	service, done, err := dial(socket)
	if err != nil {
		return nil, err
	}
	defer done()
	answer, err := service.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, unreachable(socket, err)
	}
	var out []Image
	for _, image := range answer.Images {
		names := image.RepoTags
		if len(names) == 0 {
			names = image.RepoDigests
		}
		out = append(out, Image{Names: names, Digest: image.Id, Size: int64(image.Size)})
	}
	slices.SortFunc(out, func(a, b Image) int {
		return cmp.Or(slices.Compare(a.Names, b.Names), cmp.Compare(a.Digest, b.Digest))
	})
	return out, nil
}

func dial(socket string) (runtimeapi.ImageServiceClient, func(), error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, unreachable(socket, err)
	}
	return runtimeapi.NewImageServiceClient(conn), func() { _ = conn.Close() }, nil
}

func unreachable(socket string, err error) error {
	if _, stat := os.Stat(socket); errors.Is(stat, fs.ErrNotExist) {
		return fmt.Errorf("no containerd runs at %s; start the node first, with `reprise up`", socket)
	}
	return fmt.Errorf("containerd at %s does not answer: %w", socket, err)
}
