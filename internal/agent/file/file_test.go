package file_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent"
	"provium/internal/agent/agenttest"
	"provium/internal/guest"
)

func TestFiles(t *testing.T) {
	c := connect(t)
	ctx, dir := t.Context(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	big := make([]byte, 5<<20+13)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(big)

	for _, n := range []int{0, 1, 1000, 32 << 10, 32<<10 + 1, 128<<10 - 16, 128 << 10, len(big)} {
		if err := c.WriteFile(ctx, at("f"), big[:n], guest.Perm{}); err != nil {
			t.Fatal(n, err)
		}
		got, err := c.ReadFile(ctx, at("f"))
		if err != nil || !bytes.Equal(got, big[:n]) {
			t.Fatal(n, len(got), err)
		}
	}
	if st, err := c.Stat(ctx, at("f"), true); err != nil || st.Size != int64(len(big)) || st.Perm != 0o644 ||
		st.Type.String() != "file" || st.MtimeNS == 0 {
		t.Error(st, err)
	}
	if err := c.PushFile(ctx, at("g"), bytes.NewReader(big), guest.Mode(0o4755)); err != nil {
		t.Fatal(err)
	}
	var back bytes.Buffer
	if perm, err := c.PullFile(ctx, at("g"), &back); err != nil || perm != 0o4755 || !bytes.Equal(back.Bytes(), big) {
		t.Error(perm, err, back.Len())
	}
	if err := c.WriteFile(ctx, at("g"), []byte("x"), guest.Perm{}); err != nil {
		t.Error(err)
	}
	if st, err := c.Stat(ctx, at("g"), true); err != nil || st.Perm&0o777 != 0o755 {
		t.Error("mode not kept", st, err)
	}
	if err := c.Mkdir(ctx, at("a/b/c"), true, guest.Mode(0o1777)); err != nil {
		t.Error(err)
	}
	if err := c.Mkdir(ctx, at("a/b/c"), true, guest.Perm{}); err != nil {
		t.Error(err)
	}
	if err := c.Mkdir(ctx, at("a/b/c"), false, guest.Perm{}); !hasErrno(err, "EEXIST") {
		t.Error(err)
	}
	if err := c.Mkdir(ctx, at("f/b/c"), true, guest.Perm{}); !hasErrno(err, "ENOTDIR") {
		t.Error(err)
	}
	if st, err := c.Stat(ctx, at("a/b/c"), true); err != nil || st.Perm != 0o1777 || st.Type.String() != "directory" {
		t.Error(st, err)
	}
	if err := os.Symlink("f", at("link")); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Stat(ctx, at("link"), false); err != nil || st.Type.String() != "symlink" {
		t.Error(st, err)
	}
	if err := c.Rename(ctx, at("f"), at("h")); err != nil {
		t.Error(err)
	}
	entries, err := c.ListDir(ctx, dir)
	if got := fmt.Sprint(entries); err != nil || got != "[{a directory} {g file} {h file} {link symlink}]" {
		t.Error(got, err)
	}
	for _, name := range []string{"a/b/c", "h", "link"} {
		if err := c.Unlink(ctx, at(name)); err != nil {
			t.Error(err)
		}
	}
	if err := c.Unlink(ctx, at("a")); !hasErrno(err, "ENOTEMPTY") {
		t.Error(err)
	}
	_, err = c.ReadFile(ctx, at("missing"))
	if err == nil || !strings.HasSuffix(err.Error(),
		"missing: No such file or directory (ENOENT, os error 2) [errno 2]") {
		t.Error(err)
	}
	if p, err := c.ReadFile(ctx, "/proc/self/status"); err != nil || !bytes.Contains(p, []byte("VmRSS")) {
		t.Error(err)
	}
	huge, err := os.Create(at("huge"))
	if err == nil {
		err = errors.Join(huge.Truncate(96<<20+1), huge.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ReadFile(ctx, at("huge"))
	if !hasErrno(err, "EFBIG") || !strings.Contains(err.Error(), "tail_file") ||
		!strings.Contains(err.Error(), "open_file") {
		t.Error(err)
	}
	if _, err = c.ReadFile(ctx, "/dev/zero"); !hasErrno(err, "EFBIG") {
		t.Error(err)
	}
}

// Neither direction fills holes, and what is not a regular file gets zeros.
func TestHoles(t *testing.T) {
	c := connect(t)
	ctx, dir := t.Context(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	f, err := os.Create(at("from"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, offset := range []int64{1 << 30, 1<<31 - 4} {
		if _, err := f.WriteAt([]byte("data"), offset); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(1 << 32); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("to"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.PushPieces(ctx, at("to"), guest.NewDataReader(f, true), guest.Mode(0o4711)); err != nil {
		t.Fatal(err)
	}
	back, err := os.Create(at("back"))
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	if perm, err := c.PullPieces(ctx, at("to"), back); err != nil || perm != 0o4711 {
		t.Fatal(perm, err)
	}
	for _, name := range []string{"to", "back"} {
		var st unix.Stat_t
		if err := unix.Stat(at(name), &st); err != nil || st.Size != 1<<32 || st.Blocks > 64 {
			t.Errorf("%s: %d bytes in %d blocks, %v", name, st.Size, st.Blocks, err)
		}
		f, err := os.Open(at(name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for offset, want := range map[int64]string{0: "\x00\x00\x00\x00", 1 << 30: "data", 1<<31 - 4: "data"} {
			p := make([]byte, 4)
			if _, err := f.ReadAt(p, offset); err != nil || string(p) != want {
				t.Errorf("%s has %q at %d, %v", name, p, offset, err)
			}
		}
	}

	fifo := at("fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1<<20 + 100); err != nil {
		t.Fatal(err)
	}
	pushed := make(chan error, 1)
	go func() { pushed <- c.PushPieces(ctx, fifo, guest.NewDataReader(f, true), guest.Perm{}) }()
	if _, err := c.PullPieces(ctx, fifo, back); err != nil {
		t.Fatal(err)
	}
	if err := <-pushed; err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 1<<20+100)
	want[1<<20] = 'x'
	if got, err := os.ReadFile(at("back")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came through the FIFO, %v", len(got), err)
	}
	// A file that does not say its size.
	if _, err := c.PullPieces(ctx, "/proc/self/status", back); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(at("back")); err != nil || !bytes.Contains(got, []byte("VmRSS")) {
		t.Errorf("%q, %v", got, err)
	}
}

func hasErrno(err error, name string) bool {
	var op *guest.OpError
	return errors.As(err, &op) && op.Name == name && op.Errno != 0
}

func TestWriteToFullDevice(t *testing.T) {
	c := connect(t)
	if err := c.WriteFile(t.Context(), "/dev/full", make([]byte, 4<<20), guest.Perm{}); !hasErrno(err, "ENOSPC") {
		t.Error(err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// An operation that blocks ends when the host cancels it. It leaves no reader and no
// writer behind, and what it was to write does not arrive later.
func TestBlockedOperations(t *testing.T) {
	c := agenttest.Connect(t, agent.Config{}, guest.Config{CancelGrace: time.Hour})
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	tty, name := terminal(t)
	late := errors.New("too late")
	for what, op := range map[string]func(context.Context) error{
		"read_file": func(ctx context.Context) error { _, err := c.ReadFile(ctx, fifo); return err },
		"write_file": func(ctx context.Context) error {
			return c.WriteFile(ctx, fifo, []byte("late"), guest.Perm{})
		},
		"write_file of many bytes": func(ctx context.Context) error {
			return c.WriteFile(ctx, fifo, make([]byte, 8<<20), guest.Perm{})
		},
		"push_file": func(ctx context.Context) error {
			return c.PushFile(ctx, fifo, strings.NewReader("late"), guest.Perm{})
		},
		"pull_file": func(ctx context.Context) error { _, err := c.PullFile(ctx, fifo, io.Discard); return err },
		"push_file with holes": func(ctx context.Context) error {
			return c.PushPieces(ctx, fifo, guest.NewDataReader(strings.NewReader("late"), false), guest.Perm{})
		},
		"pull_file with holes": func(ctx context.Context) error {
			_, err := c.PullPieces(ctx, fifo, nil)
			return err
		},
		"a terminal": func(ctx context.Context) error { _, err := c.ReadFile(ctx, name); return err },
	} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, late)
		err := op(ctx)
		cancel()
		if !errors.Is(err, late) {
			t.Errorf("%s: %v", what, err)
		}
		if f, err := os.OpenFile(fifo, os.O_WRONLY|unix.O_NONBLOCK, 0); !errors.Is(err, unix.ENXIO) {
			t.Errorf("%s left a reader: %v", what, err)
			f.Close()
		}
		f, err := os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(int(f.Fd()), make([]byte, 10)); n != 0 || err != nil {
			t.Errorf("%s left a writer: %d, %v", what, n, err)
		}
		f.Close()
	}
	// Nobody has taken the terminal's input.
	if _, err := tty.WriteString("line\n"); err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	p := make([]byte, 10)
	if n, err := in.Read(p); err != nil || string(p[:n]) != "line\n" {
		t.Errorf("%q, %v", p[:n], err)
	}
}

// terminal returns the master of a new terminal, and the terminal's name.
func terminal(t *testing.T) (master *os.File, name string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return master, fmt.Sprintf("/dev/pts/%d", n)
}
