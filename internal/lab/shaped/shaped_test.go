package shaped

import (
	"strings"
	"testing"

	"provium/internal/arch"
	"provium/internal/image"
	"provium/internal/machine"
	"provium/internal/ready"
	"provium/internal/topology"
	"provium/internal/userland"
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
		img, err := Image(tc.shape, tc.machine, &tc.opts, image.Spec{}, tc.hasDisks, ready.Condition{}, resolve)
		if err != nil {
			if tc.want == "" || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%+v: %v, want %q", tc.shape, err, tc.want)
			}
		} else if img.Kernel != tc.want {
			t.Errorf("%+v: boots %q, want %q", tc.shape, img.Kernel, tc.want)
		}
	}
}

// TestWaitForMissingInit refuses to wait for systemd where it cannot be.
func TestWaitForMissingInit(t *testing.T) {
	other := "quiet init=/lib/systemd/systemd"
	for name, c := range map[string]struct {
		userland *userland.Userland
		opts     topology.BootOpts
		wait     ready.Kind
		fails    bool
	}{
		"no userland":    {nil, topology.BootOpts{}, ready.Systemd, false},
		"no init":        {&userland.Userland{}, topology.BootOpts{}, ready.Systemd, true},
		"no init, agent": {&userland.Userland{}, topology.BootOpts{}, ready.Agent, false},
		"init":           {&userland.Userland{HasInit: true}, topology.BootOpts{}, ready.Systemd, false},
		"disk":           {&userland.Userland{Filesystem: "ext4"}, topology.BootOpts{}, ready.Systemd, false},
		"named":          {&userland.Userland{}, topology.BootOpts{Cmdline: &other}, ready.Systemd, false},
		"named at end":   {&userland.Userland{}, topology.BootOpts{CmdlineAppend: "init=/x"}, ready.Systemd, false},
		"named rdinit":   {&userland.Userland{}, topology.BootOpts{CmdlineAppend: "rdinit=/x"}, ready.Systemd, true},
	} {
		img := &image.Image{Arch: arch.AMD64, Cmdline: "quiet rdinit=/sbin/provium-agent", Userland: c.userland}
		_, err := Image(machine.Shape{}, "", &c.opts, image.Spec{}, false, ready.Condition{Kind: c.wait},
			func() (*image.Image, error) { return img, nil })
		if (err != nil) != c.fails || c.fails && !strings.Contains(err.Error(), "has no /sbin/init") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
