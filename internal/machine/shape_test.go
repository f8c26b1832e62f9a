package machine

import (
	"slices"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	profile := Shape{Firmware: UEFI, Args: []string{"-device", "edu"}, CPU: Topology{Cores: 2}}
	got := profile.Merge(Shape{BootFrom: FromDisk, CPU: Topology{Threads: 2}, Args: []string{"-x"}})
	if !got.IsUEFI() || !got.IsFromDisk() || got.CPU != (Topology{Threads: 2}) ||
		!slices.Equal(got.Args, []string{"-device", "edu", "-x"}) {
		t.Errorf("%+v", got)
	}
	if got := profile.Merge(Shape{Firmware: BIOS}); got.IsUEFI() || got.CPU != profile.CPU {
		t.Errorf("%+v", got)
	}
	on, off := true, false
	shown := Shape{Display: &on}
	if got := shown.Merge(Shape{}); !got.HasDisplay() {
		t.Error("the display is lost")
	}
	if got := (Shape{TPM: &off}).Merge(Shape{TPM: shown.Display}); !got.HasTPM() || (&Shape{TPM: &off}).HasTPM() ||
		shown.HasTPM() {
		t.Error("a TPM")
	}
	if got := shown.Merge(Shape{Display: &off}); got.HasDisplay() || !shown.HasDisplay() {
		t.Error("the display stays")
	}
	if len(profile.Args) != 2 {
		t.Error("merging changed the base")
	}
}

func TestCheck(t *testing.T) {
	on := true
	for _, tc := range []struct {
		shape   Shape
		machine string
		want    string
	}{
		{Shape{}, "microvm", ""},
		{Shape{Firmware: UEFI}, "pc-q35-7.2", ""},
		{Shape{Firmware: UEFI}, "pc", "firmware: `uefi` needs machine `q35`, not `pc`"},
		{Shape{Display: &on}, "pc-i440fx-7.2", ""},
		{Shape{Display: &on}, "pc-q35-7.2", ""},
		{Shape{Display: &on}, "microvm", "display: machine `microvm` cannot have one (`q35` and `pc` can)"},
		{Shape{Display: &on}, "virt", "display: machine `virt` cannot have one"},
		{Shape{TPM: &on}, "pc", ""},
		{Shape{TPM: &on}, "virt", "tpm: machine `virt` cannot have one"},
		{Shape{CPU: Topology{2, 1, 2}}, "q35", ""},
		{Shape{CPU: Topology{Sockets: 3}}, "q35",
			"cpu_topology: 3 sockets × 1 cores × 1 threads are 3 CPUs, the machine has 4"},
		{Shape{CPU: Topology{1 << 40, 1 << 40, 1 << 40}}, "q35", "are 65536 CPUs"},
		{Shape{CPU: Topology{Cores: -1}}, "q35", "must be at least 1"},
		{Shape{Args: []string{"-device", "qmp"}}, "q35", ""},
		{Shape{Args: []string{"-device", "x", "-qmp", "stdio"}}, "q35", "qemu_args: `-qmp` is Provium's own"},
		{Shape{Args: []string{"--kernel", "x"}}, "q35", "profile keys `kernel`"},
		{Shape{Args: []string{"-S"}}, "q35", "without it the machine could not be controlled"},
		{Shape{Args: []string{"a\x00"}}, "q35", "argument 1 holds a NUL byte"},
		{Shape{Args: make([]string, 257)}, "q35", "at most 256 arguments"},
		{Shape{Args: []string{strings.Repeat("x", 32<<10+1)}}, "q35", "of 32 KiB in all"},
	} {
		err := tc.shape.Check(tc.machine, 4)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%+v: %v, want %q", tc.shape, err, tc.want)
		}
	}
}
