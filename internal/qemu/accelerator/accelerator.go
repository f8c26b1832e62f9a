// Package accelerator chooses between KVM and emulation. It starts nothing.
//
// Start reading at Choose.
package accelerator

import (
	"bufio"
	"cmp"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"strings"

	"provium/internal/arch"
)

// Choice is a choice of accelerator and the reason for it.
type Choice struct {
	Name string // "kvm" or "tcg"
	Why  string
}

// Host is what the choice depends on.
type Host struct {
	Arch    *arch.Arch   // of the host
	OpenKVM func() error // opens and closes /dev/kvm
	Proc    fs.FS        // the host's /proc
}

// arch returns the host's architecture, which is x86-64 if nothing else is said.
func (h *Host) arch() *arch.Arch {
	if h.Arch == nil {
		return arch.AMD64
	}
	return h.Arch
}

// This is the machine we run on.
func This() Host {
	return Host{
		Arch: arch.Host(),
		OpenKVM: func() error {
			f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
			if err != nil {
				return err
			}
			return f.Close()
		},
		Proc: os.DirFS("/proc"),
	}
}

// Choose resolves "auto" ("" means the same), "kvm" and "tcg". An open
// /dev/kvm alone proves nothing: there are hosts that offer it, and on which
// VMs can be created, whose CPUs have no virtualisation and where no kernel
// ever boots. So on x86-64 KVM needs vmx or svm among the CPU flags as well. And KVM
// runs only guests of the host's architecture. A guest of nil is of x86-64.
func Choose(want string, guest *arch.Arch, h Host) (Choice, error) {
	guest = cmp.Or(guest, arch.AMD64)
	switch want {
	case "tcg":
		return Choice{"tcg", "asked for"}, nil
	case "", "auto", "kvm":
	default:
		return Choice{}, fmt.Errorf("unknown accelerator `%s` (valid: auto, kvm, tcg)", want)
	}
	why := noKVM(guest, h)
	switch {
	case why == "" && want == "kvm":
		return Choice{"kvm", "asked for"}, nil
	case why == "":
		return Choice{"kvm", "/dev/kvm opens and the CPU has virtualisation"}, nil
	case want == "kvm":
		return Choice{}, fmt.Errorf("accelerator `kvm` cannot be used: %s; use `auto` or `tcg`", why)
	}
	return Choice{"tcg", why}, nil
}

// noKVM returns why KVM cannot run a guest, "" if it can.
func noKVM(guest *arch.Arch, h Host) string {
	if host := h.arch(); guest != host {
		return fmt.Sprintf("the guest is %s, and this host %s", guest, host)
	}
	if err := h.OpenKVM(); err != nil {
		return err.Error()
	}
	if guest != arch.AMD64 {
		return ""
	}
	f, err := h.Proc.Open("cpuinfo")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		name, flags, ok := strings.Cut(sc.Text(), ":")
		if !ok || strings.TrimSpace(name) != "flags" {
			continue
		}
		for _, flag := range strings.Fields(flags) {
			if flag == "vmx" || flag == "svm" {
				return ""
			}
		}
		return "/dev/kvm opens, but the CPU offers neither vmx nor svm"
	}
	return "/proc/cpuinfo names no CPU flags"
}

// CPU names the host's CPU with a digest of its features: what a guest sees
// of it under KVM. It is empty when the host does not tell.
func CPU(h Host) string {
	if h.Proc == nil {
		return ""
	}
	f, err := h.Proc.Open("cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	var model string
	var features uint32
	for sc.Scan() && sc.Text() != "" { // the first CPU
		name, value, _ := strings.Cut(sc.Text(), ":")
		switch strings.TrimSpace(name) {
		case "model name":
			model = strings.TrimSpace(value)
		case "flags", "stepping", "microcode":
			features = crc32.Update(features, crc32.IEEETable, []byte(value))
		}
	}
	return fmt.Sprintf("%s (features %08x)", model, features)
}
