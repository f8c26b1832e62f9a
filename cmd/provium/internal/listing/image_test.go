package listing

import (
	"strings"
	"testing"

	"provium/internal/image"
	"provium/internal/userland"
)

func TestImage(t *testing.T) {
	got := Image(&image.Image{
		Profile: "host", Kernel: "/c/vmlinux", KernelFile: "/boot/vmlinuz-6", Origin: image.Newest, Release: "6.1",
		ModulesDir: "/lib/modules/6.1",
		Early:      []image.Module{{Name: "virtio_pci"}, {Name: "virtio_console"}},
		Late:       []image.Module{{Name: "loop", Params: "max_loop=8"}},
		Initrd:     "/c/initrd", Inject: true, Overlay: "this binary", Cmdline: "quiet",
		Notes: []string{"skipped /boot/vmlinuz-7"},
	})
	want := `profile host
  kernel    /boot/vmlinuz-6 (newest kernel of the host), 6.1
  boots     /c/vmlinux
  initrd    /c/initrd (built in)
  agent     this binary
  modules   from /lib/modules/6.1
    early   virtio_pci, virtio_console
    late    loop max_loop=8
  cmdline   quiet
  note      skipped /boot/vmlinuz-7
`
	if got != want {
		t.Errorf("%s", got)
	}
	got = Image(&image.Image{Profile: "own", Kernel: "/k", KernelFile: "/k", Origin: image.Explicit, Initrd: "/i",
		BaseInitrd: "/i"})
	if !strings.Contains(got, "not added (inject_agent = false)") {
		t.Errorf("%s", got)
	}
	got = Image(&image.Image{Profile: "k", Kernel: "/c/vmlinux", KernelFile: "/c/kernel", KernelGiven: "/s.efi",
		Origin: image.Explicit, Initrd: "/i", Inject: true, Userland: &userland.Userland{Filesystem: "squashfs",
			Source: userland.Source{Kind: userland.Disk, Path: "/d.raw"}, Index: "/x", Partition: 3, Size: 5 << 20}})
	for _, want := range []string{"  kernel    /s.efi (explicit)\n  boots     /c/vmlinux\n",
		"  userland  /d.raw, described by /x\n    disk    partition 3, squashfs of 5.00MiB\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("without %q:\n%s", want, got)
		}
	}
}
