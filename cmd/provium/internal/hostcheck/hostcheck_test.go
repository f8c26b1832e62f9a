package hostcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"provium/internal/config"
	"provium/internal/image"
	"provium/internal/proc"
	"provium/internal/sched"
)

type programs struct {
	have map[string]string // path by name
	out  string
	err  error
}

func (p programs) Look(name string) (string, error) {
	if path, ok := p.have[name]; ok {
		return path, nil
	}
	return "", errors.New("not found")
}

func (p programs) Run(context.Context, string, ...string) ([]byte, error) {
	return []byte(p.out), p.err
}

type kernels struct {
	img *image.Image
	err error
}

func (k kernels) Resolve(context.Context, image.Spec) (*image.Image, error) { return k.img, k.err }

// goodHost returns a machine on which everything is as it should be.
func goodHost(t *testing.T) Host {
	dir := t.TempDir()
	short, err := os.MkdirTemp("/tmp", "hc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	return Host{
		Root: fstest.MapFS{
			"proc/cpuinfo":          {Data: []byte("processor : 0\nflags : fpu vmx\n")},
			"proc/pressure/cpu":     {Data: []byte("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0\n")},
			"sys/kernel/mm/ksm/run": {Data: []byte("1\n")},
			"etc/os-release":        {Data: []byte("NAME=x\nID=debian\n")},

			"usr/share/OVMF/OVMF_CODE_4M.fd": {}, "usr/lib/qemu/virtiofsd": {Mode: 0o755},
			"usr/share/OVMF/OVMF_VARS_4M.fd": {},
		},
		Open: func(string) error { return nil },
		UID:  1000,
		Programs: programs{have: map[string]string{QEMUProgram: "/usr/bin/qemu", ImageProgram: "/usr/bin/qemu-nbd",
			"mmdebstrap": "/usr/bin/mmdebstrap", "swtpm": "/usr/bin/swtpm"},
			out: "QEMU emulator version 8.2.2 (Debian 1:8.2.2)\nCopyright"},
		Kernels:  kernels{img: &image.Image{KernelFile: "/boot/vmlinuz", Origin: image.HostKernel, Release: "6.1"}},
		TempBase: short, Cache: filepath.Join(dir, "not", "yet"),
		Config: func() (*config.Config, error) {
			return &config.Config{Path: "/p/provium.toml", Profiles: map[string]config.Profile{"host": {}}}, nil
		},
		Budget: func() (sched.Amount, error) { return sched.Amount{Memory: 4 << 30, CPUs: 4}, nil },
	}
}

func TestGoodHost(t *testing.T) {
	h := goodHost(t)
	for _, r := range All(context.Background(), h) {
		if r.Status != OK || r.Found == "" || r.Effect == "" || r.Remedy != "" {
			t.Errorf("%+v", r)
		}
	}
	if failed := Preflight(h); len(failed) != 0 {
		t.Errorf("pre-flight: %+v", failed)
	}
}

// TestQEMUsOfProfiles has profiles that name a QEMU, of which one is missing.
func TestQEMUsOfProfiles(t *testing.T) {
	h := goodHost(t)
	own := map[string]config.Profile{"new": {QEMU: "/opt/qemu"}, "lost": {QEMU: "qemu-lost"}}
	h.Config = func() (*config.Config, error) { return &config.Config{Profiles: own}, nil }
	h.Programs = programs{have: map[string]string{"/opt/qemu": "/opt/qemu"}, out: "QEMU emulator version 10.0.1\n"}
	if failed := Preflight(h); len(failed) != 0 {
		t.Errorf("the QEMU of PATH is not needed: %+v", failed)
	}
	list := profileQEMUs(context.Background(), h)
	if len(list) != 2 || list[0].Status != Warning || list[0].Name != "qemu of profile `lost`" ||
		list[1].Status != OK || list[1].Found != "version 10.0.1, /opt/qemu" {
		t.Errorf("%+v", list)
	}
	own["plain"] = config.Profile{}
	if failed := Preflight(h); len(failed) != 1 {
		t.Errorf("the QEMU of PATH is needed: %+v", failed)
	}
	h.QEMU = "/opt/qemu"
	if failed := Preflight(h); len(failed) != 0 {
		t.Errorf("--qemu is there: %+v", failed)
	}
}

// TestVsockPreflight has a profile that needs a device which is not there.
func TestVsockPreflight(t *testing.T) {
	h := goodHost(t)
	h.Config = func() (*config.Config, error) {
		return &config.Config{Profiles: map[string]config.Profile{"v": {Transport: "vsock"}}}, nil
	}
	if failed := Preflight(h); len(failed) != 0 {
		t.Errorf("%+v", failed)
	}
	h.Open = openError(vsockDevice, fs.ErrNotExist)
	failed := Preflight(h)
	if len(failed) != 1 || failed[0].Found != "/dev/vhost-vsock: file does not exist" ||
		!strings.Contains(failed[0].Effect, "profile `v` has transport = \"vsock\" and cannot boot") ||
		!strings.Contains(failed[0].Remedy, "modprobe vhost_vsock") {
		t.Errorf("%+v", failed)
	}
	h.Config = func() (*config.Config, error) {
		return &config.Config{Profiles: map[string]config.Profile{"v": {Transport: "virtio-serial"}}}, nil
	}
	if failed := Preflight(h); len(failed) != 0 {
		t.Errorf("nobody needs it: %+v", failed)
	}
}

func openError(path string, err error) func(string) error {
	return func(p string) error {
		if p == path {
			return &fs.PathError{Op: "open", Path: p, Err: err}
		}
		return nil
	}
}

func TestFindings(t *testing.T) {
	ctx := context.Background()
	file := func(name, text string) func(*Host) {
		return func(h *Host) { h.Root.(fstest.MapFS)[name] = &fstest.MapFile{Data: []byte(text)} }
	}
	gone := func(name string) func(*Host) {
		return func(h *Host) { delete(h.Root.(fstest.MapFS), name) }
	}
	for _, c := range []struct {
		name   string
		change func(*Host)
		check  func(Host) Result
		want   Status
		texts  string // parts, separated by |
	}{
		{"no QEMU", func(h *Host) { h.Programs = programs{} }, FindQEMU, Failure,
			"not on PATH|sudo apt-get install qemu-system-x86"},
		{"no image tool", func(h *Host) { h.Programs = programs{} }, ImageTool, Note,
			"qemu-nbd is not on PATH|only raw|sudo apt-get install qemu-utils"},
		{"no OVMF", gone("usr/share/OVMF/OVMF_VARS_4M.fd"), UEFI, Note, "no OVMF|BIOS only|package `ovmf`"},
		{"no swtpm", func(h *Host) { h.Programs = programs{} }, TPM, Note,
			"swtpm is not on PATH|cannot have `tpm = true`|package `swtpm`"},
		{"no virtiofsd", gone("usr/lib/qemu/virtiofsd"), SharedDirectories, Note,
			"no virtiofsd|cannot have `rw`|package `virtiofsd` (Debian 13"},
		{"no bootstrap tool", func(h *Host) { h.Programs = programs{} }, BootstrapTool, Note,
			"mmdebstrap is not on PATH|debian:trixie|sudo apt-get install mmdebstrap"},
		{"no image tool elsewhere", func(h *Host) { h.Programs = programs{}; file("etc/os-release", "ID=other\n")(h) },
			ImageTool, Note, "package of qemu-nbd"},
		{"no QEMU, as root", func(h *Host) { h.Programs = programs{}; h.UID = 0 }, FindQEMU, Failure,
			"install it: apt-get"},
		{"no QEMU on Fedora", func(h *Host) { h.Programs = programs{}; file("etc/os-release", "ID=fedora\n")(h) },
			FindQEMU, Failure, "sudo dnf install"},
		{"no QEMU on a derivative", func(h *Host) {
			h.Programs = programs{}
			file("etc/os-release", "ID=mint\nID_LIKE=\"ubuntu debian\"\n")(h)
		}, FindQEMU, Failure, "apt-get"},
		{"no QEMU on something else", func(h *Host) { h.Programs = programs{}; gone("etc/os-release")(h) }, FindQEMU,
			Failure, "the distribution's package"},
		{"QEMU does not start", func(h *Host) {
			h.Programs = programs{have: map[string]string{QEMUProgram: "/q"}, err: errors.New("libfoo is missing")}
		}, func(h Host) Result { return QEMU(ctx, h) }, Failure, "/q does not start: libfoo is missing|repair"},
		{"old QEMU", func(h *Host) {
			h.Programs = programs{have: map[string]string{QEMUProgram: "/q"}, out: "QEMU emulator version 6.2.0"}
		}, func(h Host) Result { return QEMU(ctx, h) }, Warning, "6.2.0|7.2|upgrade"},
		{"something else", func(h *Host) {
			h.Programs = programs{have: map[string]string{QEMUProgram: "/q"}, out: "hello"}
		}, func(h Host) Result { return QEMU(ctx, h) }, Warning, "tells no version"},

		{"no KVM", func(h *Host) { h.Open = openError(kvmDevice, fs.ErrNotExist) }, Accelerator, Note,
			"tcg|modprobe kvm_intel"},
		{"KVM forbidden", func(h *Host) { h.Open = openError(kvmDevice, fs.ErrPermission) }, Accelerator, Note,
			"tcg|usermod -aG kvm"},
		{"KVM without virtualisation", file("proc/cpuinfo", "flags : fpu\n"), Accelerator, Note,
			"tcg|neither vmx nor svm|firmware"},

		{"kernel with notes", func(h *Host) {
			h.Kernels = kernels{img: &image.Image{KernelFile: "/boot/k", Origin: image.Newest,
				Notes: []string{"/boot/l is not readable"}}}
		}, func(h Host) Result { return Kernel(ctx, h) }, Note, "/boot/k|/boot/l is not readable"},
		{"kernel to be downloaded", func(h *Host) {
			h.Kernels = kernels{err: errors.New("none " + strings.Repeat("é", 500))}
			h.Programs = programs{have: map[string]string{"apt-get": "/usr/bin/apt-get"}}
		}, func(h Host) Result { return Kernel(ctx, h) }, Note, "no usable kernel|downloads|apt-get|--kernel PATH"},
		{"no kernel", func(h *Host) { h.Kernels = kernels{err: errors.New("none")} },
			func(h Host) Result { return Kernel(ctx, h) }, Failure, "none|--kernel PATH"},
		{"no kernel but the project's", func(h *Host) {
			h.Kernels = kernels{err: errors.New("none")}
			h.Config = func() (*config.Config, error) {
				return &config.Config{Profiles: map[string]config.Profile{"mine": {Kernel: "/k"}}}, nil
			}
		}, func(h Host) Result { return Kernel(ctx, h) }, Warning, "name no kernel cannot boot"},

		{"temporary directory missing", func(h *Host) { h.TempBase += "/gone" }, TempDir, Failure,
			"not writable|TMPDIR"},
		{"temporary directory too deep", func(h *Host) { h.TempBase += strings.Repeat("/deep", 20) }, TempDir, Failure,
			"sockets|TMPDIR"},
		{"no cache", func(h *Host) { h.Cache = "" }, CacheDir, Warning, "neither HOME nor XDG_CACHE_HOME|anew"},
		{"cache of others", func(h *Host) { h.CacheState.Distrust = errors.New("/x belongs to another user") },
			CacheDir, Warning, "/x belongs to another user|XDG_CACHE_HOME"},
		{"cache for others", func(h *Host) { h.CacheState.Loose = []string{"/x"} }, CacheDir, Note,
			"/x could be written"},
		{"read-only cache", func(h *Host) { h.CacheState.ReadOnly = errors.New("read-only file system") }, CacheDir,
			Note, "read-only file system|what is in it is used|writable"},

		{"pool unknown", func(h *Host) {
			h.Budget = func() (sched.Amount, error) { return sched.Amount{}, errors.New("no meminfo") }
		}, Pool, Warning, "no meminfo|--mem and --cpus"},
		{"small pool", func(h *Host) {
			h.Budget = func() (sched.Amount, error) { return sched.Amount{Memory: 256 << 20, CPUs: 1}, nil }
		}, Pool, Warning, "does not fit|--mem"},
		{"root", func(h *Host) { h.UID = 0 }, Privileges, OK, "root"},
		{"no vsock", func(h *Host) { h.Open = openError(vsockDevice, fs.ErrNotExist) }, Vsock, OK,
			"file does not exist|transport"},
		{"no PSI", gone("proc/pressure/cpu"), Pressure, Note, "psi=1"},
		{"no KSM", gone("sys/kernel/mm/ksm/run"), KSM, Note, "no KSM"},
		{"KSM off", file("sys/kernel/mm/ksm/run", "0\n"), KSM, Note, "KSM is off|tee"},
		{"no project", func(h *Host) {
			h.Config = func() (*config.Config, error) { return nil, &config.ReadError{Path: "x", Err: fs.ErrNotExist} }
		}, Project, Note, "provium init"},
		{"broken project", func(h *Host) {
			h.Config = func() (*config.Config, error) { return nil, fmt.Errorf("invalid config in `x`: y") }
		}, Project, Failure, "invalid config in `x`: y"},
		{"empty project", func(h *Host) {
			h.Config = func() (*config.Config, error) { return &config.Config{Path: "/p"}, nil }
		}, Project, Note, "[profiles.host]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := goodHost(t)
			c.change(&h)
			r := c.check(h)
			if r.Status != c.want {
				t.Errorf("status %v, want %v", r.Status, c.want)
			}
			all := r.Found + "\n" + r.Effect + "\n" + r.Remedy
			for _, text := range strings.Split(c.texts, "|") {
				if !strings.Contains(all, text) {
					t.Errorf("%q is missing in %q", text, all)
				}
			}
			if r.Status >= Warning && r.Remedy == "" {
				t.Error("no remedy")
			}
		})
	}
}

func TestPathPrograms(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"a/tool": 0o644, "b/tool": 0o755, "c/tool": 0o755} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "0", "tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := PathPrograms{Path: strings.Join([]string{dir + "/gone", "", dir + "/0", dir + "/a", dir + "/b", dir + "/c"},
		":")}
	if path, err := p.Look("tool"); err != nil || path != filepath.Join(dir, "b/tool") {
		t.Errorf("got %s, %v", path, err)
	}
	if path, err := p.Look("other"); err == nil {
		t.Errorf("got %s", path)
	}
}

// TestSandbox has QEMUs that can and cannot confine themselves.
func TestSandbox(t *testing.T) {
	h := goodHost(t)
	if r := Sandbox(context.Background(), h); r.Status != OK {
		t.Errorf("%+v", r)
	}
	for said, remedy := range map[string]string{
		"-sandbox support is not enabled in this QEMU binary":    "built with seccomp",
		"failed to install seccomp syscall filter in the kernel": "in a container",
	} {
		h.Programs = programs{have: map[string]string{QEMUProgram: "/usr/bin/qemu"},
			err: &proc.RunError{Err: errors.New("exit status 1"), Stderr: []byte("warning: x\nqemu: " + said + "\n")}}
		r := Sandbox(context.Background(), h)
		if r.Status != Note || !strings.Contains(r.Found, said) || !strings.Contains(r.Remedy, remedy) {
			t.Errorf("%+v", r)
		}
	}
	h.Programs = programs{}
	if r := Sandbox(context.Background(), h); r.Status != OK || r.Found != "not checked" {
		t.Errorf("%+v", r)
	}
}
