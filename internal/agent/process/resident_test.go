package process

import (
	"os"
	"path/filepath"
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

// residentAt makes a resident whose root file system is that of dir.
func residentAt(t *testing.T, dir string) *resident {
	t.Helper()
	mounts, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(mounts) })
	return &resident{root: dir, mounts: mounts}
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
	s := residentAt(t, dir)
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
	s := residentAt(t, t.TempDir())
	for i := range 3 * maxKnown {
		s.atOnce(filepath.Join("/nowhere", string(rune('a'+i))), s.isInMemory)
	}
	if len(s.known) > maxKnown {
		t.Errorf("%d programs are kept", len(s.known))
	}
}

func TestChoose(t *testing.T) {
	dir := memoryTemp(t)
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("\x7fELF"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := residentAt(t, dir)
	inPath := []string{"PATH=/nowhere:" + dir}
	for name, tc := range map[string]struct {
		launch Launch
		path   string
		want   bool
	}{
		"path":             {Launch{Path: program}, program, true},
		"name":             {Launch{Path: "program", Env: inPath}, program, true},
		"directory":        {Launch{Path: program, Dir: dir}, program, true},
		"other directory":  {Launch{Path: program, Dir: "/elsewhere"}, program, false},
		"other name":       {Launch{Path: "missing", Env: inPath}, "missing", false},
		"relative path":    {Launch{Path: "./program", Dir: dir}, "./program", false},
		"relative in PATH": {Launch{Path: "program", Env: []string{"PATH=.:" + dir}}, "program", false},
		"keeper":           {Launch{Path: program, KillSession: true}, program, false},
	} {
		l := tc.launch
		if s.choose(&l); l.AtOnce != tc.want || l.Path != tc.path {
			t.Errorf("%s: %q, at once %v", name, l.Path, l.AtOnce)
		}
	}
}
