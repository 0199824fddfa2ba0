package runtime

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"text/template"
)

// Config says where one node's runtime keeps things and which addresses its pods
// get. Node, DataDir, RunDir, BinDir and PodCIDR are required.
type Config struct {
	// Node is the node's name.
	Node string
	// DataDir keeps what outlives a reboot: images, container layers, logs.
	DataDir string
	// RunDir keeps sockets and what a reboot clears. It must be short: the path
	// of a Unix socket has 107 bytes.
	RunDir string
	// BinDir holds containerd, its shim and runc.
	BinDir string
	// CNIDir holds the CNI plugins; the directory cni beside BinDir by default.
	CNIDir string
	// PodCIDR is where this node's pods get their addresses.
	PodCIDR netip.Prefix
	// ClusterCIDR covers the pods of all nodes: they see each other's addresses
	// unchanged, while the rest of the world sees the node's. PodCIDR by default.
	ClusterCIDR netip.Prefix
	// PauseImage is the image of each pod's first process.
	PauseImage string
	// RegistryConfig is a directory of containerd's hosts.toml files, which say
	// how to reach registries. It may be empty.
	RegistryConfig string
	// Log is told what happens to containerd; slog's default if nil.
	Log *slog.Logger
}

const (
	defaultRunRoot = "/run/reprise"
	// maxSocketPath is what Linux allows for the path of a Unix socket.
	maxSocketPath = 107
	// shimSocketName is what the shim's sockets add to their directory: a slash
	// and a hash in hex.
	shimSocketName = 1 + 2*sha256.Size
)

// complete fills in what was left out and refuses what cannot work.
func (c Config) complete() (Config, error) {
	c.CNIDir = cmp.Or(c.CNIDir, filepath.Join(filepath.Dir(filepath.Clean(c.BinDir)), "cni"))
	c.Log = cmp.Or(c.Log, slog.Default())
	if !c.ClusterCIDR.IsValid() {
		c.ClusterCIDR = c.PodCIDR
	}
	for _, dir := range []*string{&c.DataDir, &c.RunDir, &c.BinDir, &c.CNIDir} {
		if *dir == "" {
			return c, errors.New("a node's runtime needs a data, a run and a program directory")
		}
		absolute, err := filepath.Abs(*dir)
		if err != nil {
			return c, err
		}
		*dir = absolute
	}
	if c.Node == "" {
		return c, errors.New("a node's runtime needs the node's name")
	}
	if longest := len(c.shimSocketDir()) + shimSocketName; longest > maxSocketPath {
		return c, fmt.Errorf("the run directory %s is %d bytes too long: containers' sockets lie below it, and the path of a socket may have %d bytes; choose a shorter one",
			c.RunDir, longest-maxSocketPath, maxSocketPath)
	}
	return c, nil
}

// check refuses to start where containers cannot run.
func (c Config) check() error {
	if os.Geteuid() != 0 {
		return errors.New("running containers needs root; run it with sudo")
	}
	if !c.PodCIDR.IsValid() || !c.PodCIDR.Addr().Is4() {
		return fmt.Errorf("the pods' address range %v of node %s is not an IPv4 prefix like 10.244.0.0/24", c.PodCIDR, c.Node)
	}
	programs := []string{c.containerd(), c.shim(), c.runc()}
	for _, plugin := range []string{"ptp", "host-local", "portmap"} {
		programs = append(programs, filepath.Join(c.CNIDir, plugin))
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the node needs the program %s, which is not there; `make tools` builds it", program)
		} else if err != nil {
			return fmt.Errorf("the node cannot run %w; `make tools` builds it", err)
		}
	}
	if _, err := exec.LookPath("nft"); err != nil {
		return errors.New("the node needs the program nft, for addresses and services; apt-get install nftables")
	}
	return nil
}

// id tells this node's things from those of all other nodes on this machine, in
// places that they share: control groups and nft tables.
func (c Config) id() string {
	if c.RunDir == filepath.Join(defaultRunRoot, c.Node) {
		return c.Node
	}
	sum := sha256.Sum256([]byte(c.RunDir))
	return c.Node + "-" + hex.EncodeToString(sum[:3])
}

// Socket is where containerd listens, for CRI and for its own clients.
func (c Config) Socket() string { return filepath.Join(c.RunDir, "c.sock") }

// LogFile is where containerd logs.
func (c Config) LogFile() string { return filepath.Join(c.DataDir, "containerd.log") }

// CgroupRoot is the control group above all pods of this node.
func (c Config) CgroupRoot() string { return "/reprise/" + c.id() }

func (c Config) containerd() string    { return filepath.Join(c.BinDir, "containerd") }
func (c Config) shim() string          { return filepath.Join(c.BinDir, "containerd-shim-runc-v2") }
func (c Config) runc() string          { return filepath.Join(c.BinDir, "runc") }
func (c Config) root() string          { return filepath.Join(c.DataDir, "containerd") }
func (c Config) state() string         { return filepath.Join(c.RunDir, "c") }
func (c Config) shimSocketDir() string { return filepath.Join(c.RunDir, "s") }
func (c Config) runcRoot() string      { return filepath.Join(c.RunDir, "runc") }
func (c Config) configFile() string    { return filepath.Join(c.RunDir, "containerd.toml") }
func (c Config) pidFile() string       { return filepath.Join(c.RunDir, "containerd.pid") }
func (c Config) lockFile() string      { return filepath.Join(c.RunDir, "lock") }
func (c Config) cniConfDir() string    { return filepath.Join(c.RunDir, "cni") }
func (c Config) ipamDir() string       { return filepath.Join(c.RunDir, "ipam") }

//go:embed containerd.toml.tmpl
var containerdTOML string

var containerdTemplate = template.Must(template.New("containerd.toml").
	Funcs(template.FuncMap{"quote": strconv.Quote}).Option("missingkey=error").Parse(containerdTOML))

// containerdConfig is containerd's configuration file. It must not depend on
// anything but c: a difference makes a running containerd start again.
func (c Config) containerdConfig() ([]byte, error) {
	var out bytes.Buffer
	err := containerdTemplate.Execute(&out, map[string]string{
		"Root":           c.root(),
		"State":          c.state(),
		"Socket":         c.Socket(),
		"TTRPCSocket":    c.Socket() + ".ttrpc",
		"ShimSocketDir":  c.shimSocketDir(),
		"PauseImage":     c.PauseImage,
		"RegistryConfig": c.RegistryConfig,
		"CNIDir":         c.CNIDir,
		"CNIConfDir":     c.cniConfDir(),
		"Shim":           c.shim(),
		"Runc":           c.runc(),
		"RuncRoot":       c.runcRoot(),
	})
	return out.Bytes(), err
}
