package shaped

import (
	"strings"
	"testing"

	"provium/internal/arch"
	"provium/internal/image"
	"provium/internal/machine"
	"provium/internal/topology"
)

func TestImage(t *testing.T) {
	resolve := func() (*image.Image, error) {
		return &image.Image{Kernel: "/vmlinux", KernelFile: "/bzImage", Arch: arch.AMD64}, nil
	}
	cmdline, on := "quiet", true
	for _, tc := range []struct {
		shape    machine.Shape
		machine  string
		opts     topology.BootOpts
		hasDisks bool
		want     string // the kernel, or part of the error
	}{
		{machine.Shape{}, "", topology.BootOpts{}, false, "/vmlinux"},
		{machine.Shape{Firmware: machine.UEFI}, "", topology.BootOpts{}, false, "/bzImage"},
		{machine.Shape{Display: &on}, "pc", topology.BootOpts{}, false, "/bzImage"},
		{machine.Shape{Display: &on}, "microvm", topology.BootOpts{}, false, "display: machine `microvm`"},
		{machine.Shape{Firmware: machine.UEFI}, "pc", topology.BootOpts{}, false, "needs machine `q35`, not `pc`"},
		{machine.Shape{BootFrom: machine.FromDisk}, "", topology.BootOpts{}, true, ""},
		{machine.Shape{BootFrom: machine.FromDisk}, "", topology.BootOpts{}, false, "has no disk to boot from"},
		{machine.Shape{BootFrom: machine.FromDisk}, "", topology.BootOpts{Cmdline: &cmdline}, true, "neither"},
		{machine.Shape{CPU: machine.Topology{Cores: 2}}, "", topology.BootOpts{CPUs: 3}, false, "the machine has 3"},
	} {
		img, err := Image(tc.shape, tc.machine, &tc.opts, image.Spec{}, tc.hasDisks, resolve)
		if err != nil {
			if tc.want == "" || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%+v: %v, want %q", tc.shape, err, tc.want)
			}
		} else if img.Kernel != tc.want {
			t.Errorf("%+v: boots %q, want %q", tc.shape, img.Kernel, tc.want)
		}
	}
}
