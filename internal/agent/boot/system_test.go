package boot

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// procSystem returns a System that sees a directory as procfs, in which PID 1 has the
// name and the command line given, and is in the root directory of the System.
func procSystem(t *testing.T, comm, cmdline string) *System {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"1/comm": comm + "\n", "1/cmdline": cmdline} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(dir, filepath.Join(dir, "1/root")); err != nil {
		t.Fatal(err)
	}
	open := func(path string, flags int) int {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	s := &System{proc: open(dir, unix.O_PATH), comm: open(filepath.Join(dir, "1/comm"), unix.O_RDONLY), oom: -1}
	var err error
	if s.root, err = sys.Identify(s.proc, "1/root"); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestIsLeaving(t *testing.T) {
	for _, tc := range []struct {
		comm, cmdline string
		want          bool
	}{
		{"init", "/sbin/init\x00", false},
		{"sh", "/bin/sh\x00/init\x00", false},
		{"run-init", "run-init\x00/root\x00/sbin/init\x00", true},
		{"switch_root", "switch_root\x00/newroot\x00/sbin/init\x00", true},
		{"busybox", "busybox\x00switch_root\x00/newroot\x00/sbin/init\x00", true},
		{"busybox", "busybox\x00sh\x00", false},
		{"toybox", "toybox\x00", false},
	} {
		s := procSystem(t, tc.comm, tc.cmdline)
		if s.isLeaving() != tc.want || s.RootMoves() != tc.want {
			t.Errorf("%+v", tc)
		}
		s.settled.Store(true)
		if s.isLeaving() || s.RootMoves() {
			t.Errorf("%+v: it has left before", tc)
		}
	}
}

// TestFollowWaits is about a PID 1 that does not come to the next root directory.
func TestFollowWaits(t *testing.T) {
	s := procSystem(t, "switch_root", "")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if moved, err := s.Follow(ctx); moved || err != context.Canceled {
		t.Error(moved, err)
	}
	s = procSystem(t, "init", "")
	if moved, err := s.Follow(t.Context()); moved || err != nil {
		t.Error(moved, err)
	}
	// It has moved since.
	root := filepath.Join(sys.DescriptorPath(s.proc), "1/root")
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", root); err != nil {
		t.Fatal(err)
	}
	if !s.RootMoves() {
		t.Error("not seen")
	}
}
