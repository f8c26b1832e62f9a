package shaped

import (
	"cmp"
	"fmt"

	"provium/internal/arch"
	"provium/internal/qemu"
	"provium/internal/qemu/accelerator"
	"provium/internal/snapshot"
)

// Program returns the QEMU that boots the images of a profile, which names one itself or has that of the host, "" for
// none. Where no kernel is booted it is the host's.
func Program(profile, own, host string, guest *arch.Arch, isLocal bool) (string, error) {
	if isLocal || own == "" && (guest == nil || guest == arch.AMD64) {
		return host, nil
	}
	program, err := qemu.Program(cmp.Or(own, host), guest)
	if err != nil {
		return "", fmt.Errorf("profile `%s`: %w", profile, err)
	}
	return program, nil
}

// Hardware describes the machine of cfg for a manifest.
func Hardware(cfg *qemu.Config, host accelerator.Host, version string) snapshot.Machine {
	h := cfg.Hardware()
	if h.Accel == "kvm" {
		h.CPU += " of " + accelerator.CPU(host)
	}
	return snapshot.Machine{QEMU: version, Type: h.Type, CPU: h.CPU, Accel: h.Accel,
		Memory: h.Memory, CPUs: h.CPUs, Devices: h.Devices}
}

// Again returns r for one more machine, with files of its own, which is made of the template if that is not nil.
func Again(r *qemu.Restore, t *qemu.Template) (*qemu.Restore, error) {
	again := *r
	again.Keep, again.Template = nil, t
	var err error
	if again.File, err = snapshot.Dup(r.File); err != nil {
		return nil, err
	}
	if r.State != nil {
		if again.State, err = snapshot.Dup(r.State); err != nil {
			again.File.Close()
			return nil, err
		}
	}
	return &again, nil
}
