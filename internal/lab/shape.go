package lab

import (
	"cmp"
	"context"
	"errors"

	"provium/internal/image"
	"provium/internal/machine"
	"provium/internal/qemu"
	"provium/internal/topology"
)

// shape returns what the profile and the opts make of the machine.
func (v *VM) shape(opts *topology.BootOpts) (machine.Shape, error) {
	s := v.profile.Shape.Merge(opts.Shape)
	return s, s.Check(cmp.Or(v.profile.Machine, qemu.DefaultMachine), opts.VCPUs())
}

// imageFor returns what a machine of that shape boots. Firmware that looks for it by itself gets nothing, and UEFI
// starts no vmlinux: it gets the kernel as it was found.
func (v *VM) imageFor(ctx context.Context, s machine.Shape, opts *topology.BootOpts, key string) (*image.Image, error) {
	if s.IsFromDisk() {
		switch {
		case opts.Cmdline != nil || opts.CmdlineAppend != "" || len(opts.Files) > 0:
			return nil, errors.New("boot_from: a guest that boots from its disk gets neither a command line nor files")
		case key == "" && len(v.disks.All()) == 0:
			return nil, errors.New("boot_from: the VM has no disk to boot from")
		}
		return &image.Image{Profile: v.profile.Name, Key: machine.FromDisk}, nil
	}
	img, err := v.host.image(ctx, v.profile, key)
	if err != nil || !s.IsUEFI() || img.KernelFile == "" || img.KernelFile == img.Kernel {
		return img, err
	}
	unpacked := *img
	unpacked.Kernel = img.KernelFile
	return &unpacked, nil
}
