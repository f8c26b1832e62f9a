package process

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// memoryTemp makes a directory in memory.
func memoryTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "slots")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// slotsAt makes slots whose root file system is that of dir.
func slotsAt(t *testing.T, dir string) *slots {
	t.Helper()
	mounts, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(mounts) })
	return &slots{single: true, root: dir, mounts: mounts}
}

func TestLoadsAtOnce(t *testing.T) {
	dir := memoryTemp(t)
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program := file("program", "\x7fELF and more")
	link := filepath.Join(dir, "link")
	if err := os.Symlink("program", link); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o700); err != nil {
		t.Fatal(err)
	}
	s := slotsAt(t, dir)
	for _, tc := range []struct {
		program string
		want    bool
	}{
		{program, true},
		{link, true},
		{program, true}, // known by now
		{file("script", "#!/bin/sh\n"), false},
		{file("short", "\x7fEL"), false},
		{filepath.Join(dir, "absent"), false},
		{fifo, false},
		{dir, false},
		{"/proc/self/exe", false}, // on a disk, unless the tests run in memory
	} {
		if tc.program == "/proc/self/exe" {
			var fs unix.Statfs_t
			if unix.Statfs(tc.program, &fs) == nil && sys.InMemory(&fs) {
				continue
			}
		}
		if got := s.atOnce(tc.program, s.isInMemory); got != tc.want {
			t.Errorf("%s: %v", tc.program, got)
		}
	}
}

func TestKnownProgramsAreBounded(t *testing.T) {
	s := slotsAt(t, t.TempDir())
	for i := range 3 * maxKnown {
		s.atOnce(filepath.Join("/nowhere", string(rune('a'+i))), s.isInMemory)
	}
	if len(s.known) > maxKnown {
		t.Errorf("%d programs are kept", len(s.known))
	}
}

// The second slot is taken before a program starts that may have to wait.
func TestReserve(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	dir := memoryTemp(t)
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("\x7fELF"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := slotsAt(t, dir)
	s.reserve(program, "/")
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Fatalf("%d slots for a program in memory", n)
	}
	s.reserve(program, dir)
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Fatalf("%d slots for a directory in memory", n)
	}
	s.reserve(program, "/elsewhere")
	if n := runtime.GOMAXPROCS(0); n != 2 {
		t.Fatalf("%d slots for a directory that may be anywhere", n)
	}
}
