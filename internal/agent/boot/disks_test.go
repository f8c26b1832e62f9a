package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeSystem is a System over directories.
func fakeSystem(t *testing.T) (s *System, sys, dev string) {
	t.Helper()
	sys, dev = t.TempDir(), t.TempDir()
	open := func(dir string) int {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	return &System{sys: open(sys), dev: open(dev), oom: -1}, sys, dev
}

func TestLinkDisks(t *testing.T) {
	s, sys, dev := fakeSystem(t)
	if err := s.LinkDisks(); err != nil {
		t.Errorf("without block devices: %v", err)
	}
	disk := func(name, serial string) {
		t.Helper()
		dir := filepath.Join(sys, "block", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{filepath.Join(dir, "serial"): serial, filepath.Join(dev, name): ""} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	disk("vda", "one\n")
	disk("vdb", "two")
	disk("vdc", "")
	disk("vdd", "../x")
	disk("sda", "no virtio disk")
	ids := filepath.Join(dev, diskLinks)
	if err := os.MkdirAll(ids, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"virtio-two": "../../vdz", "virtio-gone": "../../vdy",
		"virtio-elsewhere": "../../sdb", "ata-x": "../../sda"} {
		if err := os.Symlink(target, filepath.Join(ids, name)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := s.LinkDisks(); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(ids)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		got[e.Name()], _ = os.Readlink(filepath.Join(ids, e.Name()))
	}
	want := map[string]string{"virtio-one": "../../vda", "virtio-two": "../../vdb", "virtio-elsewhere": "../../sdb",
		"ata-x": "../../sda"}
	for name, target := range want {
		if got[name] != target {
			t.Errorf("%s -> %q, want %q", name, got[name], target)
		}
	}
	if len(got) != len(want) {
		t.Errorf("links: %v", got)
	}
}

func TestAwaitDisk(t *testing.T) {
	s, sys, dev := fakeSystem(t)
	if err := s.AwaitDisk(t.Context(), "one", "", true); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error)
	go func() { waited <- s.AwaitDisk(ctx, "one", "", false) }()
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := os.MkdirAll(filepath.Join(sys, "block/vda"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(sys, "block/vda/serial"), filepath.Join(dev, "vda")} {
		if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AwaitDisk(t.Context(), "one", "", false); err != nil {
		t.Error(err)
	}
}

// TestMissingDriver has a kernel without a driver, and one that gets it.
func TestMissingDriver(t *testing.T) {
	s, sys, _ := fakeSystem(t)
	s.proc = s.dev // no release of a kernel, so no modules
	err := s.AwaitDisk(t.Context(), "one", "virtio-scsi", false)
	want := "the guest's kernel has no driver for disks on bus `virtio-scsi` (CONFIG_VIRTIO_PCI, CONFIG_SCSI_VIRTIO, " +
		"CONFIG_BLK_DEV_SD): load it by modules = [\"virtio_pci\", \"virtio_scsi\", \"sd_mod\"] of the profile"
	if err == nil || err.Error() != want {
		t.Error(err)
	}
	for _, name := range []string{"pci/drivers/virtio-pci", "virtio/drivers/virtio_scsi", "scsi/drivers/sd"} {
		if err := os.MkdirAll(filepath.Join(sys, "bus", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.missingDriver("virtio-scsi"); err != nil {
		t.Error(err)
	}
	if err := s.missingDriver("of a later version"); err != nil {
		t.Error(err)
	}
	// Beside the minimal init, nobody loads a module.
	s.minimal.Store(true)
	if s.mayLoad("virtio_scsi") {
		t.Error("the minimal init loads modules")
	}
}
