package handle

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/wire"
)

// TestFilesOfEveryActor has the agent, and a worker by its system calls, do the same
// with the same outcome.
func TestFilesOfEveryActor(t *testing.T) {
	vm, all := actors(t)
	ctx := t.Context()
	for name, a := range all {
		t.Run(name, func(t *testing.T) {
			dir := "/" + name
			must(t, a.Mkdir(ctx, dir, false, guest.Perm{}))
			must(t, a.Mkdir(ctx, dir+"/x//y", true, guest.Mode(0o1770)))
			must(t, a.Mkdir(ctx, dir+"/x/y", true, guest.Perm{})) // exists
			wantErrno(t, a.Mkdir(ctx, dir+"/x/y", false, guest.Perm{}), "mkdir", dir+"/x/y", unix.EEXIST)
			info, err := a.Stat(ctx, dir+"/x/y", true)
			must(t, err)
			if info.Perm != 0o1770 || info.Type != guest.TypeDirectory {
				t.Errorf("%+v", info)
			}

			large := bytes.Repeat([]byte("0123456789"), 300<<10)
			for _, data := range [][]byte{large, []byte("text"), nil} {
				must(t, a.WriteFile(ctx, dir+"/f", data))
				got, err := a.ReadFile(ctx, dir+"/f")
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d of %d bytes, %v", len(got), len(data), err)
				}
			}
			must(t, unix.Mkfifo(vm.guest.path(dir+"/fifo"), 0o600))
			must(t, os.Symlink("f", vm.guest.path(dir+"/link")))
			entries, err := a.ListDir(ctx, dir)
			must(t, err)
			want := []guest.DirEntry{{Name: "f", Type: guest.TypeFile}, {Name: "fifo", Type: guest.TypeFIFO},
				{Name: "link", Type: guest.TypeSymlink}, {Name: "x", Type: guest.TypeDirectory}}
			if !reflect.DeepEqual(entries, want) {
				t.Errorf("%+v", entries)
			}
			for follow, kind := range map[bool]guest.EntryType{true: guest.TypeFile, false: guest.TypeSymlink} {
				if info, err := a.Stat(ctx, dir+"/link", follow); err != nil || info.Type != kind {
					t.Errorf("%+v, %v", info, err)
				}
			}
			must(t, a.Rename(ctx, dir+"/f", dir+"/g"))
			must(t, a.Unlink(ctx, dir+"/g"))
			must(t, a.Unlink(ctx, dir+"/x/y"))

			none := dir + "/none"
			_, err = a.ReadFile(ctx, none)
			wantErrno(t, err, "read_file", none, unix.ENOENT)
			wantErrno(t, a.WriteFile(ctx, none+"/f", nil), "write_file", none+"/f", unix.ENOENT)
			_, err = a.Stat(ctx, none, true)
			wantErrno(t, err, "stat", none, unix.ENOENT)
			_, err = a.ListDir(ctx, none)
			wantErrno(t, err, "listdir", none, unix.ENOENT)
			wantErrno(t, a.Mkdir(ctx, none+"/d", false, guest.Perm{}), "mkdir", none+"/d", unix.ENOENT)
			wantErrno(t, a.Unlink(ctx, none), "unlink", none, unix.ENOENT)
			wantErrno(t, a.Rename(ctx, none, dir+"/m"), "rename", none+" -> "+dir+"/m", unix.ENOENT)
		})
	}
}

func wantErrno(t *testing.T, err error, op, path string, errno unix.Errno) {
	t.Helper()
	var failed *guest.OpError
	if !errors.As(err, &failed) || failed.Op != op || failed.Path != path || failed.Errno != uint32(errno) {
		t.Errorf("%v, want %s %s: %v", err, op, path, errno)
	}
}

// TestFilesThatBreakOff have system calls that fail after the file was opened, or that
// say what cannot be.
func TestFilesThatBreakOff(t *testing.T) {
	vm, all := actors(t)
	g, a, ctx := vm.guest, all["worker"], t.Context()
	must(t, a.WriteFile(ctx, "/f", []byte("text")))
	must(t, a.Mkdir(ctx, "/d", false, guest.Perm{}))
	fails := func(*wire.Syscall, [][]byte) (int64, uint32) { return -1, uint32(unix.EIO) }
	returns := func(n int64) func(*wire.Syscall, [][]byte) (int64, uint32) {
		return func(*wire.Syscall, [][]byte) (int64, uint32) { return n, 0 }
	}
	read := func() error { _, err := a.ReadFile(ctx, "/f"); return err }
	pull := func() error { return a.PullFile(ctx, "/f", filepath.Join(t.TempDir(), "f")) }
	list := func() error { _, err := a.ListDir(ctx, "/d"); return err }
	write := func() error { return a.WriteFile(ctx, "/f", []byte("more")) }
	host := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(host, []byte("x"), 0o600))
	push := func() error { return a.PushFile(ctx, host, "/f", guest.Perm{}) }
	for _, tc := range []struct {
		nr   int64
		how  func(*wire.Syscall, [][]byte) (int64, uint32)
		do   func() error
		want string
	}{
		{wire.CallStatx, fails, read, "read_file /f: Input/output error (EIO, os error 5) [errno 5]"},
		{wire.CallStatx, fails, pull, "/f: Input/output error (EIO, os error 5) [errno 5]"},
		{wire.CallRead, fails, read, "read_file /f: Input/output error (EIO, os error 5) [errno 5]"},
		{wire.CallRead, returns(-5), read, "the guest's kernel says that it moved -5 of 262144 bytes"},
		{wire.CallRead, returns(1 << 40), pull, "the guest's kernel says that it moved 1099511627776 of 1048576 bytes"},
		{wire.CallWrite, fails, write, "write_file /f: Input/output error (EIO, os error 5) [errno 5]"},
		{wire.CallWrite, returns(0), write, "the guest's kernel took none of 4 bytes"},
		{wire.CallWrite, returns(5), write, "moved 5 of 4 bytes"},
		{wire.CallFchmod, fails, push, "/f -> /f: Input/output error (EIO, os error 5) [errno 5]"},
		{wire.CallGetdents64, fails, list, "listdir /d: Input/output error (EIO, os error 5) [errno 5]"},
		{wire.CallGetdents64, returns(7), list, "directory entry"},
		{wire.CallFchmodat, fails, func() error { return a.Mkdir(ctx, "/new", false, guest.Mode(0o700)) },
			"mkdir /new: Input/output error (EIO, os error 5) [errno 5]"},
		{wire.CallUnlinkat, fails, func() error { return a.Unlink(ctx, "/f") },
			"vm `a`: unlink /f: Input/output error (EIO, os error 5) [errno 5]"},
		{wire.CallMkdirat, fails, func() error { return a.Mkdir(ctx, "/new/sub/x", true, guest.Perm{}) },
			"mkdir /new/sub: Input/output error (EIO, os error 5) [errno 5]"},
		{wire.CallMkdirat, fails, func() error { return a.Mkdir(ctx, "/d/x", true, guest.Perm{}) },
			"mkdir /d/x: Input/output error (EIO, os error 5) [errno 5]"},
		{wire.CallMkdirat, fails, func() error { return a.Mkdir(ctx, "/f", true, guest.Perm{}) },
			"mkdir /f: Not a directory (ENOTDIR, os error 20) [errno 20]"},
		{wire.CallMkdirat, fails, func() error { return a.Mkdir(ctx, "/d", true, guest.Perm{}) }, ""}, // it is there
	} {
		g.onSyscall(tc.nr, tc.how)
		err := tc.do()
		if tc.want != "" {
			wantError(t, err, tc.want)
		} else {
			must(t, err)
		}
		g.onSyscall(tc.nr, nil)
	}
	before, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	must(t, read())
	must(t, list())
	after, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	if len(after) != len(before) {
		t.Errorf("%d descriptors, %d before", len(after), len(before))
	}

	// A call that is not answered.
	for _, nr := range []int64{wire.CallRead, wire.CallStatx, wire.CallWrite, wire.CallFchmod} {
		g.onSyscall(nr, func(*wire.Syscall, [][]byte) (int64, uint32) {
			vm.die()
			return 0, 0
		})
		for _, do := range []func() error{read, push} {
			if err := do(); err != nil && !errors.Is(err, errPanicked) {
				t.Errorf("%d: %v", nr, err)
			}
		}
		g.onSyscall(nr, nil)
		vm.mu.Lock()
		epoch := vm.epoch
		vm.mu.Unlock()
		vm.start(epoch)
	}
}

func TestReadFileHasALimit(t *testing.T) {
	vm, all := actors(t)
	g, a, ctx := vm.guest, all["worker"], t.Context()
	must(t, os.WriteFile(g.path("/f"), nil, 0o600))
	must(t, os.Truncate(g.path("/f"), guest.MaxReadFile+1))
	_, err := a.ReadFile(ctx, "/f")
	wantError(t, err, "read_file /f: File too large: file has 100663297 bytes", "use tail_file or open_file")

	// A file that does not say how much is in it.
	must(t, os.Truncate(g.path("/f"), 0))
	g.onSyscall(wire.CallRead, func(_ *wire.Syscall, bufs [][]byte) (int64, uint32) { return int64(len(bufs[0])), 0 })
	_, err = syscallFiles{a}.readFile(ctx, "/f", 1<<20)
	wantError(t, err, "file has more than 1048576 bytes")
}

func TestWriteStopsWithItsSource(t *testing.T) {
	_, all := actors(t)
	broken := errors.New("broken disk")
	f := syscallFiles{all["worker"]}
	from := guest.NewDataReader(failingReader{err: broken}, false)
	err := f.PushPieces(t.Context(), "/f", from, guest.Perm{})
	if err != broken {
		t.Error(err)
	}
}

type failingReader struct {
	*bytes.Reader
	err error
}

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestFilesOfAGuestThatIsGone(t *testing.T) {
	vm, all := actors(t)
	vm.die()
	for _, a := range all {
		_, err := a.ReadFile(t.Context(), "/f")
		wantError(t, err, errPanicked.Error())
		wantError(t, a.Unlink(t.Context(), "/f"), errPanicked.Error())
		_, err = a.Run(t.Context(), guest.RunRequest{Shell: "x"})
		wantError(t, err, errPanicked.Error())
	}
}

func TestFilesOfAClosedWorker(t *testing.T) {
	vm, _ := newVM(t)
	w, err := SpawnWorker(t.Context(), vm)
	must(t, err)
	must(t, w.Close(t.Context()))
	_, err = w.Stat(t.Context(), "/", true)
	wantError(t, err, "worker is closed")
}

func TestEntryTypes(t *testing.T) {
	for n, want := range map[uint32]string{unix.DT_REG: "file", unix.DT_DIR: "directory", unix.DT_LNK: "symlink",
		unix.DT_FIFO: "fifo",
		unix.DT_SOCK: "socket", unix.DT_BLK: "block_device", unix.DT_CHR: "char_device", unix.DT_UNKNOWN: "other"} {
		if got := entryType(n).String(); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}

// encodeEntry is the inverse of directoryEntry.
func encodeEntry(name string, kind byte) []byte {
	b := make([]byte, 19, 19+len(name)+1)
	b[18] = kind
	b = append(append(b, name...), 0)
	b[16], b[17] = byte(len(b)), byte(len(b)>>8)
	return b
}

func FuzzDirectoryEntry(f *testing.F) {
	f.Add(encodeEntry("name", unix.DT_DIR))
	f.Add([]byte("short"))
	f.Add(append(encodeEntry("a", unix.DT_REG), encodeEntry("b", 99)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			e, rest, err := directoryEntry(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) || strings.Contains(e.Name, "\x00") {
				t.Fatalf("%q, %d of %d bytes left", e.Name, len(rest), len(b))
			}
			again, rest2, err := directoryEntry(encodeEntry(e.Name, b[18]))
			if err != nil || again != e || len(rest2) > 0 {
				t.Fatalf("%+v became %+v, %v", e, again, err)
			}
			b = rest
		}
	})
}

// TestCancelledFiles do not leave descriptors behind.
func TestCancelledFiles(t *testing.T) {
	vm, all := actors(t)
	g, a := vm.guest, all["worker"]
	must(t, os.WriteFile(g.path("/f"), []byte("text"), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	closed := 0
	g.onSyscall(wire.CallRead, func(*wire.Syscall, [][]byte) (int64, uint32) { cancel(); return 0, 0 })
	g.onSyscall(wire.CallClose, func(s *wire.Syscall, _ [][]byte) (int64, uint32) {
		closed++
		if err := unix.Close(int(s.Args[0])); err != nil {
			t.Error(err)
		}
		return 0, 0
	})
	_, _ = a.ReadFile(ctx, "/f") // an error, or an empty file: the cancel comes late or in time
	if closed != 1 {
		t.Errorf("closed %d times", closed)
	}
}
