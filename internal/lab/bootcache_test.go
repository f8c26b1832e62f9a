package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/disk"
	"provium/internal/fakemachine"
	"provium/internal/localvmm"
	"provium/internal/qemu"
	"provium/internal/snapshot"
	"provium/internal/topology"
	"provium/internal/wire"
)

const bootID = "cat /tmp/boot_id"

// identify sets a separate id for each boot, and so many bytes of memory that its
// snapshot has.
func identify(f *fakemachine.Machines, memory int) {
	f.Prepare(func(m *fakemachine.Machine) {
		m.Files.Write("/tmp/boot_id", fmt.Append(nil, m.PID()))
		m.OnOp("ping", func(context.Context, *localvmm.Op) (wire.Value, *wire.Error) {
			if err := m.WriteMemory(0, bytes.Repeat([]byte{7}, memory)); err != nil {
				return nil, fakemachine.Errno(uint32(unix.EIO))
			}
			m.OnOp("ping", nil)
			return nil, nil
		})
	})
}

// TestBootCacheDamage has entries go bad: each time there is a warning, a real
// boot, and a good entry again.
func TestBootCacheDamage(t *testing.T) {
	l, f := fakeLab(t)
	h := l.host
	identify(f, 1<<20)
	h.BootCache = filepath.Join(t.TempDir(), "boots")
	var warnings []string
	h.Warn = func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	n := 0
	boot := func() string {
		t.Helper()
		n++
		v, err := l.DeclareVM(fmt.Sprint("v", n), "p", &topology.BootOpts{
			Disks: []disk.Spec{{ID: "d", Scratch: 1 << 20}}})
		must(t, err)
		must(t, v.Boot(t.Context(), nil))
		id := shell(t, v, bootID)
		must(t, v.Shutdown(t.Context()))
		return id
	}
	entry := func() string {
		t.Helper()
		list, err := filepath.Glob(filepath.Join(h.BootCache, "*.snap"))
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0]
	}
	first := boot()
	if again := boot(); again != first || len(warnings) > 0 {
		t.Fatalf("%s and %s, warnings %q", first, again, warnings)
	}
	write := func(at int64, p string) func(string) error {
		return func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			if at < 0 {
				info, err := f.Stat()
				if err != nil {
					return err
				}
				at += info.Size()
			}
			_, err = f.WriteAt([]byte(p), at)
			return err
		}
	}
	for name, damage := range map[string]func(path string) error{
		"RAM":       write(20<<10, "xyz"),
		"sections":  write(512<<20+100, "xyz"),
		"manifest":  write(-100, "xyz"),
		"trailer":   write(-10, "xyz"),
		"truncated": func(path string) error { return os.Truncate(path, 100<<20) },
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"state, unnoticed": func(path string) error {
			r, err := snapshot.Open(path)
			if err != nil {
				return err
			}
			defer r.Close()
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			at := r.Manifest().Sections["state"].Offset
			if err := write(at, strings.Repeat("?", 100))(path); err != nil {
				return err
			}
			return os.Chtimes(path, time.Time{}, info.ModTime())
		},
		"directory": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		},
	} {
		warnings = nil
		must(t, damage(entry()))
		now := boot()
		if now == first || len(warnings) != 1 || !strings.Contains(warnings[0], "boot cache") {
			t.Errorf("%s: boot %s after %s, warnings %q", name, now, first, warnings)
		}
		if first = boot(); first != now {
			t.Errorf("%s: the entry was not made again", name)
		}
	}

	// A directory that cannot be used costs a warning, not the boot.
	warnings = nil
	h.BootCache = filepath.Join(h.BootCache, "file")
	must(t, os.WriteFile(h.BootCache, nil, 0o600))
	if boot() == first || len(warnings) == 0 {
		t.Errorf("warnings %q", warnings)
	}
}

// TestPoolShare looks at what the pool gets back, also when a cached guest
// does not start and another one boots in its place.
// TestBootCacheOfAnotherQEMU has an entry of another QEMU, which a script of the same size
// and age may start: the boot is a real one, and its entry takes the place.
func TestBootCacheOfAnotherQEMU(t *testing.T) {
	l, f := fakeLab(t)
	h := l.host
	identify(f, 1<<20)
	h.BootCache = filepath.Join(t.TempDir(), "boots")
	var warnings []string
	h.Warn = func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	boot := func(name string) string {
		t.Helper()
		v := declare(t, l, name)
		must(t, v.Boot(t.Context(), nil))
		defer func() { must(t, v.Shutdown(t.Context())) }()
		return shell(t, v, bootID)
	}
	first := boot("a")
	list, err := filepath.Glob(filepath.Join(h.BootCache, "*.snap"))
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	other := remake(t, list[0], func(m *snapshot.Manifest, _ map[string][]byte) { m.Machine.QEMU = "1.2.3" })
	must(t, os.Rename(other, list[0]))
	second := boot("b")
	if second == first || len(warnings) != 1 ||
		!strings.Contains(warnings[0], "QEMU version: the snapshot has 1.2.3, here is ") {
		t.Errorf("boot %s after %s, warnings %q", second, first, warnings)
	}
	if boot("c") != second || len(warnings) != 1 {
		t.Errorf("the entry was not made again, warnings %q", warnings)
	}
}

// TestBootCacheTogether has several VMs boot the same at once: one of them boots, and the
// others get what it has stored.
func TestBootCacheTogether(t *testing.T) {
	l, f := fakeLab(t)
	h := l.host
	identify(f, 1<<20)
	h.BootCache = t.TempDir()
	ids := map[string]bool{}
	for round := range 2 {
		var vms []*VM
		for i := range 3 {
			v, err := l.DeclareVM(fmt.Sprintf("v%d-%d", round, i), "p", nil)
			must(t, err)
			vms = append(vms, v)
		}
		must(t, l.Boot(t.Context()))
		for _, v := range vms {
			ids[shell(t, v, bootID)] = true
		}
		must(t, l.Shutdown(t.Context()))
		for _, v := range vms {
			must(t, l.Remove(v))
		}
	}
	if len(ids) != 1 {
		t.Errorf("%d guests really booted", len(ids))
	}
	list, err := filepath.Glob(filepath.Join(h.BootCache, "*"))
	must(t, err)
	if len(list) != 3 { // the entry, its note, and the file of turns
		t.Error(list)
	}
}

// TestWhatABootDependsOn boots with options that differ in one thing each: none is served
// from the entry of another, and each from its own.
func TestWhatABootDependsOn(t *testing.T) {
	l, _, _ := cachedLab(t)
	block := qemu.DiskModel{PhysicalBlock: 4096}
	file := func(content string) []topology.BootFile { return []topology.BootFile{{Path: "/f", Content: content}} }
	all := []topology.BootOpts{
		{}, {Memory: 256 << 20}, {CPUs: 2}, {CmdlineAppend: "a=b"}, {Files: file("1")}, {Files: file("2")},
		{Disks: []disk.Spec{{ID: "a", Scratch: 1 << 20}, {ID: "b", Scratch: 2 << 20}}},
		{Disks: []disk.Spec{{ID: "b", Scratch: 2 << 20}, {ID: "a", Scratch: 1 << 20}}},
		{Disks: []disk.Spec{{ID: "a", Scratch: 1 << 20}, {ID: "b", Scratch: 3 << 20}}},
		{Disks: []disk.Spec{{ID: "a", Scratch: 1 << 20}, {ID: "b", Scratch: 2 << 20, DiskModel: block}}},
	}
	for round := range 2 {
		for i, opts := range all {
			v, err := l.DeclareVM(fmt.Sprintf("v%d-%d", round, i), "p", &opts)
			must(t, err)
			must(t, v.Boot(t.Context(), nil))
			must(t, v.Shutdown(t.Context()))
			want := i + 1
			if round > 0 {
				want = len(all)
			}
			if n := len(cacheEntries(t, l.host)); n != want {
				t.Errorf("round %d, %+v: %d entries, want %d", round, opts, n, want)
			}
		}
	}
}

// TestBootCacheDiskFull has no room for the entry.
func TestBootCacheDiskFull(t *testing.T) {
	l, f := fakeLab(t)
	h := l.host
	identify(f, 32<<20)
	h.BootCache = t.TempDir()
	if err := unix.Mount("tmpfs", h.BootCache, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	defer unix.Unmount(h.BootCache, unix.MNT_DETACH)
	var warnings []string
	h.Warn = func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	v, err := l.DeclareVM("a", "p", &topology.BootOpts{Disks: []disk.Spec{{ID: "d", Scratch: 1 << 20}}})
	must(t, err)
	must(t, v.Boot(t.Context(), nil))
	shell(t, v, bootID)
	list, err := filepath.Glob(filepath.Join(h.BootCache, "*.snap"))
	must(t, err)
	if len(list) > 0 || len(warnings) != 1 || !strings.Contains(warnings[0], "no space left") {
		t.Errorf("%v, warnings %q", list, warnings)
	}
}
