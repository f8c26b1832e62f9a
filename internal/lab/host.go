package lab

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"provium/internal/admission"
	"provium/internal/arch"
	"provium/internal/determinism"
	"provium/internal/disk"
	"provium/internal/event"
	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/hosttsc"
	"provium/internal/image"
	"provium/internal/inspect"
	"provium/internal/instance"
	"provium/internal/lab/announce"
	"provium/internal/lab/shaped"
	"provium/internal/machine"
	"provium/internal/network"
	"provium/internal/qemu"
	"provium/internal/qemu/accelerator"
	"provium/internal/ready"
	"provium/internal/snapshot"
	"provium/internal/templates"
	"provium/internal/topology"
)

// Profile says what a VM declared with its name boots.
type Profile struct {
	Name    string
	Image   image.Spec // kernel, initrd, modules, command line of the config
	Machine string     // QEMU machine type; "" is ours
	Shape   machine.Shape
	QEMU    string // program; "" is the host's
	// FirmwareConsole has the firmware print to the serial console.
	FirmwareConsole bool
	Accel           string          // "auto" (or ""), "kvm", "tcg"
	AgentTimeout    time.Duration   // how long a boot may take; 0: 30 s under KVM, 120 s under TCG
	NoBootCache     bool            // boots are not served from the cache
	BootCacheAge    time.Duration   // of what serves them, at most; 0: any
	Ready           ready.Condition // when a boot is done, unless it says so itself
	ReadyTimeout    time.Duration   // how long that may take beside the agent; 0: 60 s under KVM, 300 s under TCG
	OpTimeout       time.Duration   // how long a guest may be silent during an operation; 0: the default
	NoteWarnings    bool            // WARNING reports of the kernel fail nothing
	Disks           []disk.Spec     // attached first, with ids
	DebugFile       func() string   // path of a file with the kernel's symbols, "" for none; may be nil
	Source          announce.Source // of the kernel; may be nil
}

// Images turns profiles into files to boot.
type Images interface {
	Resolve(ctx context.Context, spec image.Spec) (*image.Image, error)
	// ContentDigest names the content of a disk's image.
	ContentDigest(ctx context.Context, path string) (string, error)
}

// Host is what all labs of one test file share. Its exported fields must not be changed
// after the first use.
type Host struct {
	File       string              // the test file in events; "" in a REPL
	Profiles   map[string]*Profile // by name
	ConfigPath string              // provium.toml, named when a profile is unknown
	TempDir    string              // private and short, see qemu.Config.Dir
	QEMU       string              // program; "" is qemu-system-x86_64 on PATH
	Oops       instance.Rules      // guest failures to watch for
	Watch      guest.Watch         // over operations; its zero value is good

	Check *determinism.Check // writes down what deterministic guests do; nil: nothing does
	// Seed changes everything that is random; with 0, that follows from names alone.
	Seed uint64

	Starter   qemu.Starter
	AccelHost accelerator.Host
	TSC       *hosttsc.Meter // tells emulated kernels what their TSC counts; nil: they measure it
	Pool      admission.Pool // nil: no limit

	Images Images
	// BootCache is the directory of the post-boot snapshots from which boots are served;
	// "" serves none from a cache.
	BootCache string

	Emit    func(event.Event)                // nil drops events
	Waits   func() (done func())             // begins a wait that counts against no limit; nil: there are no limits
	DumpDir string                           // where guests that die leave their memory; "": nowhere
	Warn    func(format string, args ...any) // gets what fails nothing; nil drops it
	// Local is set where the Starter's machines boot no kernel (package localvmm):
	// operations of tests on guests and their consoles are refused.
	Local bool

	observers announce.Listeners[Observer]

	// membership is held while labs get or lose members that exist elsewhere too. It
	// is locked before any lab's own lock.
	membership sync.Mutex

	// Templates are of guests of this file and of earlier ones; nil: none are made. MoreFiles says that others use them
	// next, Boots which of those that the cache has.
	Templates *templates.Store[*qemu.Template]
	MoreFiles bool
	Boots     *templates.Demand

	// NoPrewarming turns off the restoring of guests ahead of need, Busy while it is true; nil: never.
	NoPrewarming bool
	Busy         func() bool

	// snapshots is what this process knows of the snapshot files that it has taken or
	// read. It is closed with the root lab.
	snapshots snapshot.Store[handle.Mark, disk.Sealed]
	prewarmed instance.Pool
	running   sync.Map // VMs that have run and are not closed
	sandboxes qemu.Sandboxes
	places    inspect.Places

	mu           sync.Mutex
	nextVM       int
	nextSnapshot int
	nextDisk     atomic.Int64
	disks        *disk.Env                 // see diskEnv
	labCall      chan struct{}             // see wholeLab
	net          *network.Network          // made at the first use, see network
	images       map[*Profile]*image.Image // the latest of each profile
	digests      map[*Profile]string       // see ProfileDigest
}

// program returns the QEMU that boots an image of the profile.
func (p *Profile) program(h *Host, a *arch.Arch) (string, error) {
	return shaped.Program(p.Name, p.QEMU, h.QEMU, a, h.Local)
}

func (h *Host) emit(e event.Event) {
	if h.Emit != nil {
		h.Emit(e)
	}
}

func (h *Host) warn(format string, args ...any) {
	if h.Warn != nil {
		h.Warn(format, args...)
	}
}

// VMs returns the VMs that have run and are not closed.
func (h *Host) VMs() (vms []*VM) {
	h.running.Range(func(v, _ any) bool {
		vms = append(vms, v.(*VM))
		return true
	})
	return vms
}

// vmDir creates the private directory of a VM. Its name is a number, since the path of
// a unix socket must stay below 108 bytes.
func (h *Host) vmDir() (string, error) {
	h.mu.Lock()
	h.nextVM++
	n := h.nextVM
	h.mu.Unlock()
	dir := fmt.Sprintf("%s/vm%d", h.TempDir, n)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("vm directory: %w", err)
	}
	return dir, nil
}

// image resolves the image of a profile. The latest one is returned without that when
// it has this key.
func (h *Host) image(ctx context.Context, p *Profile, key string) (*image.Image, error) {
	h.mu.Lock()
	latest := h.images[p]
	h.mu.Unlock()
	if latest != nil && latest.Key == key {
		return latest, nil
	}
	img, err := h.Images.Resolve(ctx, p.Image)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.images == nil {
		h.images = map[*Profile]*image.Image{}
	}
	h.images[p] = img
	return img, nil
}

// nextSocket returns a number for the socket of a disk.
func (h *Host) nextSocket() int { return int(h.nextDisk.Add(1)) }

// snapshotPath is a new one in the run's temporary directory.
func (h *Host) snapshotPath() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nextSnapshot++
	return fmt.Sprintf("%s/%d.snap", h.TempDir, h.nextSnapshot)
}

func (h *Host) profile(name string) (*Profile, error) {
	if p := h.Profiles[name]; p != nil {
		return p, nil
	}
	return nil, topology.UnknownProfile(name, h.ConfigPath, slices.Sorted(maps.Keys(h.Profiles)))
}
