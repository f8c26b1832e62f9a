package hostcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"provium/internal/arch"
	"provium/internal/beside"
	"provium/internal/config"
	"provium/internal/image"
	"provium/internal/qemu"
	"provium/internal/qemu/accelerator"
	"provium/internal/userland"
)

const (
	kvmDevice   = "/dev/kvm"
	vsockDevice = "/dev/vhost-vsock"
)

// oldestQEMU is the oldest version that Provium is tested with, major and
// minor.
var oldestQEMU = [2]int{7, 2}

// FindQEMU checks that QEMU is there; Found is its path.
func FindQEMU(h Host) Result {
	r := Result{Name: "qemu"}
	if h.QEMU != "" {
		return findNamed(h, r, h.QEMU, "give --qemu the path of a "+QEMUProgram+", or its name on PATH")
	}
	if h.isQEMUUnused() {
		r.Found, r.Effect = "not needed", "every profile names its own (`qemu`)"
		return r
	}
	path, err := h.Programs.Look(QEMUProgram)
	if err != nil {
		r.Status = Failure
		r.Found = QEMUProgram + " is not on PATH"
		r.Effect = "no guest can run"
		r.Remedy = "install it: " + install(h, QEMUProgram) + "; or add its directory to PATH"
		return r
	}
	r.Found = path
	return r
}

// findNamed checks that the QEMU is there that the user has named.
func findNamed(h Host, r Result, program, remedy string) Result {
	path, err := h.Programs.Look(program)
	if err != nil {
		var le *exec.Error
		if errors.As(err, &le) {
			err = le.Err
		}
		r.Status, r.Effect, r.Remedy = Failure, "no guest can run", remedy
		r.Found = fmt.Sprintf("%s: %v", program, plain(err))
		return r
	}
	r.Found = path
	return r
}

// profiles returns the names of the project's profiles that hold for pick, sorted.
func (h Host) profiles(pick func(config.Profile) bool) (names []string, all bool) {
	if h.Config == nil {
		return nil, false
	}
	cfg, err := h.Config()
	if err != nil {
		return nil, false
	}
	for _, name := range cfg.ProfileNames() {
		if pick(cfg.Profiles[name]) {
			names = append(names, name)
		}
	}
	return names, len(names) > 0 && len(names) == len(cfg.Profiles)
}

// isQEMUUnused reports whether all profiles have a QEMU of their own.
func (h Host) isQEMUUnused() bool {
	_, all := h.profiles(func(p config.Profile) bool { return p.QEMU != "" })
	return all
}

// profileQEMUs checks the QEMUs that profiles name.
func profileQEMUs(ctx context.Context, h Host) (results []Result) {
	if h.QEMU != "" {
		return nil
	}
	names, _ := h.profiles(func(p config.Profile) bool { return p.QEMU != "" })
	for _, name := range names {
		cfg, _ := h.Config() // it was read a moment ago
		r := findNamed(h, Result{Name: "qemu of profile `" + name + "`"}, cfg.Profiles[name].QEMU,
			"give `qemu` the path of a "+QEMUProgram+", or its name on PATH")
		if r.Status == OK {
			r = qemuVersion(ctx, h, r)
		}
		if r.Status == Failure {
			r.Status, r.Effect = Warning, "the profile cannot boot"
		}
		results = append(results, r)
	}
	return results
}

var versionPattern = regexp.MustCompile(`QEMU emulator version (\d+)\.(\d+)[^\s]*`)

// QEMU checks that QEMU is there, starts, and is new enough.
func QEMU(ctx context.Context, h Host) Result {
	r := FindQEMU(h)
	if r.Status != OK || r.Effect != "" {
		return r
	}
	return qemuVersion(ctx, h, r)
}

// qemuVersion checks that the QEMU that was found starts, and is new enough.
func qemuVersion(ctx context.Context, h Host, r Result) Result {
	path := r.Found
	out, err := h.Programs.Run(ctx, path, "--version")
	m := versionPattern.FindStringSubmatch(string(out))
	switch {
	case err != nil:
		r.Status = Failure
		r.Found = fmt.Sprintf("%s does not start: %v", path, err)
		r.Effect = "no guest can run"
		r.Remedy = "repair the installation: " + install(h, QEMUProgram)
		return r
	case m == nil:
		r.Status = Warning
		r.Found = fmt.Sprintf("%s tells no version", path)
		r.Effect = "it may lack what Provium needs"
		r.Remedy = fmt.Sprintf("use QEMU %d.%d or newer", oldestQEMU[0], oldestQEMU[1])
		return r
	}
	r.Found = strings.TrimPrefix(m[0], "QEMU emulator ") + ", " + path
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	if major < oldestQEMU[0] || major == oldestQEMU[0] && minor < oldestQEMU[1] {
		r.Status = Warning
		r.Effect = fmt.Sprintf("older than the oldest tested version, %d.%d", oldestQEMU[0], oldestQEMU[1])
		r.Remedy = "upgrade QEMU"
		return r
	}
	r.Effect = "guests can run"
	return r
}

// optional is what some guests need and others do not.
type optional struct {
	name    string // of the result
	can     string // what guests can have with it
	cannot  string // what they cannot have without it
	missing string // what is said of it then; "" is that the program is not on PATH
	program string // looked for on PATH, unless find is set
	find    func(Host) (path string, err error)
	remedy  string // "" is to install the package of the program
}

// check looks for it.
func (o optional) check(h Host) Result {
	find, missing, remedy := o.find, o.missing, o.remedy
	if find == nil {
		find = func(h Host) (string, error) { return h.Programs.Look(o.program) }
		missing = o.program + " is not on PATH"
	}
	path, err := find(h)
	if err == nil {
		return Result{Name: o.name, Found: path, Effect: o.can}
	}
	if remedy == "" {
		remedy = "install it: " + install(h, o.program)
	}
	return Result{Name: o.name, Status: Note, Found: missing, Effect: o.cannot, Remedy: remedy}
}

// ImageTool checks whether disk images that are not raw can be used.
func ImageTool(h Host) Result {
	return optional{name: "disk images", can: "qcow2, vhd, vhdx and vmdk images can be disks, besides raw ones",
		cannot: "only raw images can be disks of guests", program: ImageProgram}.check(h)
}

// UEFI checks whether guests can be started by UEFI.
func UEFI(h Host) Result {
	find := func(h Host) (string, error) {
		f, err := qemu.FirmwareIn(h.Root)
		return f.Code, err
	}
	return optional{name: "UEFI", can: "guests can have `firmware = \"uefi\"`", cannot: "guests start by BIOS only",
		missing: "no OVMF", find: find,
		remedy: "install the package `ovmf` (Debian, Ubuntu) or `edk2-ovmf` (Fedora)"}.check(h)
}

// SharedDirectories looks for the program that shares directories of the host with guests.
func SharedDirectories(h Host) Result {
	return optional{name: "shared directories", can: "guests can write to directories of the host (`rw`)",
		cannot: "guests cannot have `rw`", missing: "no virtiofsd",
		find: func(h Host) (string, error) { return beside.FindVirtiofsd(h.Root) },
		remedy: "install the package `virtiofsd` (Debian 13, Ubuntu 24.04, Fedora) or " +
			"`qemu-system-common` (Debian 12)"}.check(h)
}

// TPM looks for the program that is a TPM.
func TPM(h Host) Result {
	return optional{name: "TPM", can: "guests can have a TPM (`tpm = true`)", cannot: "guests cannot have `tpm = true`",
		program: beside.TPMProgram, remedy: "install the package `swtpm`"}.check(h)
}

// BootstrapTool looks for the program that makes releases of Debian.
func BootstrapTool(h Host) Result {
	return optional{name: "Debian", can: "guests can have a release of Debian (userland = \"debian:trixie\")",
		cannot: "userlands such as `debian:trixie` cannot be made", program: userland.BootstrapProgram}.check(h)
}

// Accelerator checks whether guests run at the speed of the host's CPU.
func Accelerator(h Host) Result {
	r := Result{Name: "accelerator"}
	a, err := accelerator.Choose("auto", arch.Host(), h.accel())
	if err != nil {
		r.Status, r.Found = Failure, err.Error()
		r.Effect = "no guest can run"
		return r
	}
	r.Found = fmt.Sprintf("%s: %s", a.Name, a.Why)
	if a.Name == "kvm" {
		r.Effect = "guests run at the speed of the host's CPU"
		return r
	}
	r.Status = Note
	r.Effect = "guests are emulated: everything works, several times slower"
	switch err := h.Open(kvmDevice); {
	case errors.Is(err, fs.ErrPermission):
		r.Remedy = "get access to " + kvmDevice +
			": sudo usermod -aG kvm $USER, then log in again; in a container, pass --device " + kvmDevice
	case err != nil:
		r.Remedy = "load the module (sudo modprobe kvm_intel, or kvm_amd) after enabling virtualisation in the " +
			"firmware; in a VM, enable nested virtualisation; in a container, pass --device " + kvmDevice
	default:
		r.Remedy = "enable virtualisation (VT-x, AMD-V) in the firmware, or nested virtualisation if this is a VM"
	}
	return r
}

// Kernel checks which kernel a profile without one boots.
func Kernel(ctx context.Context, h Host) Result {
	r := Result{Name: "kernel"}
	img, err := h.Kernels.Resolve(ctx, image.Spec{Profile: "auto"})
	if err == nil {
		r.Found = fmt.Sprintf("%s (%s)", img.KernelFile, img.Origin)
		if img.Release != "" {
			r.Found = img.Release + ", " + r.Found
		}
		r.Effect = "booted by profiles that name no kernel"
		if len(img.Notes) > 0 {
			r.Status = Note
			r.Effect += "; " + strings.Join(img.Notes, "; ")
		}
		return r
	}
	tool, lerr := h.Programs.Look("apt-get")
	if lerr == nil {
		r.Status = Note
		r.Found = "no usable kernel on this machine"
		r.Effect = "the first run of a profile without a kernel downloads the distribution's one with " +
			filepath.Base(tool) + ", which needs no privileges"
		r.Remedy = "without a network: name a kernel in the profile (`kernel = \"PATH\"`) or with --kernel PATH"
		if ctx.Err() == nil {
			r.Effect += fmt.Sprintf(" (%v)", shortened(err))
		}
		return r
	}
	r.Status = Failure
	if h.namesKernels() {
		r.Status = Warning
	}
	r.Found = err.Error()
	r.Effect = "profiles that name no kernel cannot boot"
	r.Remedy = "name a kernel in the profile (`kernel = \"PATH\"`) or with --kernel PATH, or install a kernel package"
	return r
}

// namesKernels reports whether some profile of the project brings its own kernel.
func (h Host) namesKernels() bool {
	cfg, err := h.Config()
	if err != nil {
		return false
	}
	for _, p := range cfg.Profiles {
		if p.Kernel != "" || p.Root != "" {
			return true
		}
	}
	return false
}

// shortened returns the first part of a long error.
func shortened(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	const limit = 200
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "..."
	}
	return text
}

// Vsock checks the optional transport.
func Vsock(h Host) Result {
	r := Result{Name: "vsock"}
	if err := h.Open(vsockDevice); err != nil {
		r.Found = fmt.Sprintf("%s: %v", vsockDevice, plain(err))
		r.Effect = "profiles with transport = \"vsock\" cannot boot; the default, virtio-serial, needs nothing"
		if names, _ := h.profiles(func(p config.Profile) bool { return p.Transport == "vsock" }); len(names) > 0 {
			r.Status = Failure
			r.Effect = fmt.Sprintf("profile `%s` has transport = \"vsock\" and cannot boot",
				strings.Join(names, "`, `"))
			r.Remedy = "leave `transport` out (virtio-serial, the default, needs nothing), or load the module " +
				"(sudo modprobe vhost_vsock) and get access to " + vsockDevice
		}
		return r
	}
	r.Found = vsockDevice + " opens"
	r.Effect = "profiles may use transport = \"vsock\""
	return r
}

// plain leaves out the path, which the message has already.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
