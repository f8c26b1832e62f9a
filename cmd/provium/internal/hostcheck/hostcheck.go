// Package hostcheck finds out what this machine offers for running guests:
// each check has a result, says what follows from it, and how to change it.
//
// The same checks serve the pre-flight of a run, where only what makes any run
// impossible counts, and the full report of `provium doctor`. The package
// changes nothing on the machine and prints nothing.
package hostcheck

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"provium/internal/cachedir"
	"provium/internal/config"
	"provium/internal/image"
	"provium/internal/qemu/accelerator"
	"provium/internal/sched"
	"provium/internal/userland"
)

// QEMUProgram is the program that runs guests.
const QEMUProgram = "qemu-system-x86_64"

// ImageProgram is the program that reads disk images that are not raw.
const ImageProgram = "qemu-nbd"

// Status grades a result.
type Status int

const (
	// OK is as it should be.
	OK Status = iota
	// Note costs speed or convenience at most.
	Note
	// Warning keeps some runs from working.
	Warning
	// Failure keeps all guests from booting.
	Failure
)

func (s Status) String() string { return [...]string{"ok", "note", "warning", "failure"}[s] }

// Result is what one check has found.
type Result struct {
	Name   string
	Status Status
	Found  string
	Effect string // what follows from it
	Remedy string // how to change that; empty if there is nothing to change
}

// Programs finds and runs programs of the host.
type Programs interface {
	// Look returns the path of the program with that name. A name with a slash is a path.
	Look(name string) (string, error)
	// Run runs a program to its end.
	Run(ctx context.Context, path string, args ...string) (stdout []byte, err error)
}

// Kernels resolves a profile's image without downloading anything.
type Kernels interface {
	Resolve(ctx context.Context, spec image.Spec) (*image.Image, error)
}

// Host is the machine, as far as the checks look at it.
type Host struct {
	// Root is the file system, for what is only read (proc, sys, etc).
	Root fs.FS
	// Open opens a file for reading and writing and closes it again.
	Open func(path string) error
	// UID is the effective user.
	UID      int
	Programs Programs
	// QEMU is the program of --qemu, or "".
	QEMU    string
	Kernels Kernels
	// TempBase and Cache are the directories for temporary files and caches; Cache may be
	// "".
	TempBase string
	Cache    string
	// CacheState is what is known of Cache.
	CacheState cachedir.State
	// Config loads the project's configuration.
	Config func() (*config.Config, error)
	// Budget measures the pool.
	Budget func() (sched.Amount, error)
}

// Preflight makes the checks that every run depends on and returns what has
// failed.
func Preflight(h Host) []Result {
	var failed []Result
	for _, r := range []Result{FindQEMU(h), TempDir(h), Vsock(h)} {
		if r.Status == Failure {
			failed = append(failed, r)
		}
	}
	return failed
}

// All makes every check, in the order in which they are best read.
func All(ctx context.Context, h Host) []Result {
	results := append([]Result{QEMU(ctx, h)}, profileQEMUs(ctx, h)...)
	return append(results,
		Sandbox(ctx, h), ImageTool(h), BootstrapTool(h), UEFI(h), SharedDirectories(h), TPM(h),
		Accelerator(h), Kernel(ctx, h), CacheDir(h), TempDir(h), Pool(h),
		Privileges(h), Vsock(h), Pressure(h), KSM(h), Project(h))
}

// accel returns the machine as the choice of the accelerator sees it.
func (h Host) accel() accelerator.Host {
	host := accelerator.Host{OpenKVM: func() error { return h.Open(kvmDevice) }}
	if proc, err := fs.Sub(h.Root, "proc"); err == nil {
		host.Proc = proc
	}
	return host
}

// PathPrograms are the programs on a PATH, run by the given function.
type PathPrograms struct {
	Path  string // list of directories
	Start func(ctx context.Context, path string, args ...string) ([]byte, error)
}

// Look implements [Programs].
func (p PathPrograms) Look(name string) (string, error) {
	if strings.ContainsRune(name, '/') {
		return exec.LookPath(name)
	}
	for _, dir := range filepath.SplitList(p.Path) {
		if dir == "" {
			continue // would be the working directory
		}
		path, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// Run implements [Programs].
func (p PathPrograms) Run(ctx context.Context, path string, args ...string) ([]byte, error) {
	return p.Start(ctx, path, args...)
}

// distribution reads the name of the host's package family from os-release:
// its ID and ID_LIKE.
func distribution(root fs.FS) []string {
	text, err := fs.ReadFile(root, "etc/os-release")
	if err != nil {
		return nil
	}
	var ids []string
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "ID" || key == "ID_LIKE" {
			ids = append(ids, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	return ids
}

// install returns the command that installs a program of QEMU here.
func install(h Host, program string) string {
	for _, id := range distribution(h.Root) {
		var with, machine, images string
		switch id {
		case "debian", "ubuntu":
			with, machine, images = "apt-get install ", "qemu-system-x86", "qemu-utils"
		case "fedora", "rhel":
			with, machine, images = "dnf install ", "qemu-system-x86-core", "qemu-img"
		case "arch":
			with, machine, images = "pacman -S ", "qemu-system-x86", "qemu-img"
		case "alpine":
			with, machine, images = "apk add ", "qemu-system-x86_64", "qemu-img"
		case "suse":
			with, machine, images = "zypper install ", "qemu-x86", "qemu-img"
		default:
			continue
		}
		switch program {
		case ImageProgram:
			return sudo(h) + with + images
		case userland.BootstrapProgram:
			return sudo(h) + with + program
		}
		return sudo(h) + with + machine
	}
	return "the distribution's package of " + program
}

func sudo(h Host) string {
	if h.UID == 0 {
		return ""
	}
	return "sudo "
}
