package images

import (
	"maps"
	"strconv"
)

// The names of the images that come with Reprise.
const (
	// PauseImage holds each pod's namespaces.
	PauseImage = "reprise.run/pause:1"
	// DemoImage is the demo's name without tag; its tags are 1 and 2.
	DemoImage = "reprise.run/demo"
)

// Pause is the image of a pod's first process, from the program cmd/pause.
func Pause(binary string) Spec {
	return Spec{
		Name:       PauseImage,
		Files:      []File{{From: binary, To: "/pause"}},
		Entrypoint: []string{"/pause"},
		User:       "65535:65535",
	}
}

// Demo is one version of the demo image: the program cmd/demo, and a static
// busybox with links for its applets, so that exec and cp work in it.
func Demo(binary, busybox string, applets []string, version int) Spec {
	links := map[string]string{}
	for _, applet := range applets {
		links["/bin/"+applet] = "busybox"
	}
	maps.DeleteFunc(links, func(link, target string) bool { return link == "/bin/"+target })
	return Spec{
		Name:       DemoImage + ":" + strconv.Itoa(version),
		Files:      []File{{From: binary, To: "/demo"}, {From: busybox, To: "/bin/busybox"}},
		Links:      links,
		Entrypoint: []string{"/demo"},
		Env:        []string{"PATH=/bin:/", "DEMO_VERSION=" + strconv.Itoa(version)},
		Ports:      []string{"8080/tcp"},
	}
}
