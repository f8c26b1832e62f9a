package handle

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/wire"
)

// makeTree makes a directory with what trees have.
func makeTree(t *testing.T, dir string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "sub/closed"), 0o750))
	must(t, os.WriteFile(filepath.Join(dir, "sub/f"), []byte("text"), 0o600))
	must(t, os.Chmod(filepath.Join(dir, "sub/f"), 0o751|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
	must(t, os.WriteFile(filepath.Join(dir, "sub/closed/f"), nil, 0o400))
	must(t, os.Symlink("sub/f", filepath.Join(dir, "link")))
	must(t, os.Symlink("/no/where", filepath.Join(dir, "sub/dangling")))
	must(t, os.Symlink("..", filepath.Join(dir, "sub/parent")))
	f, err := os.Create(filepath.Join(dir, "holes"))
	must(t, err)
	_, err = f.WriteAt([]byte("middle"), 1<<20)
	must(t, err)
	must(t, f.Truncate(2<<20))
	must(t, f.Close())
	must(t, os.Chmod(filepath.Join(dir, "sub/closed"), 0o511))
}

// describe lists a tree as makeTree has made it.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		text := info.Mode().String() + " " + name
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			must(t, err)
			text = "link " + name + " -> " + to
		case info.Mode().IsRegular() && info.Size() < 100:
			data, err := os.ReadFile(path)
			must(t, err)
			text += " " + string(data)
		case info.Mode().IsRegular():
			if st := info.Sys().(*syscall.Stat_t); info.Size() != 2<<20 || st.Blocks > 64 {
				t.Errorf("%s has %d bytes in %d blocks", name, info.Size(), st.Blocks)
			}
			f, err := os.Open(path)
			must(t, err)
			defer f.Close()
			piece := make([]byte, 8)
			_, err = f.ReadAt(piece, 1<<20)
			must(t, err)
			text += " " + string(piece)
		}
		all = append(all, text)
		return nil
	}))
	return strings.Join(all, "\n")
}

func TestTreesOfEveryActor(t *testing.T) {
	vm, all := actors(t)
	ctx := t.Context()
	host := filepath.Join(t.TempDir(), "tree")
	makeTree(t, host)
	want := describe(t, host)
	onHost := strings.ReplaceAll(want, "ugtrwxr-x--x", "-rwxr-x--x") // no set-id and sticky bits
	for name, a := range all {
		t.Run(name, func(t *testing.T) {
			must(t, os.Mkdir(vm.guest.path("/"+name), 0o755))
			to := "/" + name + "/new/tree"
			must(t, a.PushFile(ctx, host, to+"/", guest.Perm{}))
			if got := describe(t, vm.guest.path(to)); got != want {
				t.Errorf("pushed:\n%s\nwant\n%s", got, want)
			}
			// Again, over what is there.
			must(t, os.Remove(vm.guest.path(to+"/link")))
			must(t, os.WriteFile(vm.guest.path(to+"/link"), nil, 0o600))
			must(t, os.Chmod(vm.guest.path(to), 0o700))
			must(t, a.PushFile(ctx, host, to, guest.Perm{}))
			must(t, os.Chmod(vm.guest.path(to), 0o750))
			if got := describe(t, vm.guest.path(to)); got != want {
				t.Errorf("pushed again:\n%s\nwant\n%s", got, want)
			}

			back := filepath.Join(t.TempDir(), "back")
			for range 2 { // the second time over what is there
				must(t, a.PullFile(ctx, to, back))
				if got := describe(t, back); got != onHost {
					t.Errorf("pulled:\n%s\nwant\n%s", got, onHost)
				}
			}
			must(t, a.PushFile(ctx, filepath.Join(host, "sub"), to+"/perm", guest.Mode(0o444)))
			if info, err := a.Stat(ctx, to+"/perm/f", true); err != nil || info.Perm != 0o444 {
				t.Errorf("%+v, %v", info, err)
			}
			// A link to a directory, in both directions.
			must(t, os.Symlink("tree", vm.guest.path("/"+name+"/new/way")))
			must(t, a.PullFile(ctx, "/"+name+"/new/way/sub/parent/sub", filepath.Join(t.TempDir(), "sub")))
			must(t, os.Symlink(host, back+"-way"))
			must(t, a.PushFile(ctx, back+"-way", "/"+name+"/way", guest.Perm{}))
			if got := describe(t, vm.guest.path("/"+name+"/way")); got != want {
				t.Errorf("pushed by a link:\n%s", got)
			}
		})
	}
}

// TestTreesThatAreNotCopied are refused with both paths, before anything is copied.
func TestTreesThatAreNotCopied(t *testing.T) {
	vm, all := actors(t)
	ctx := t.Context()
	host := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(host, "fifo/sub"), 0o750))
	must(t, os.WriteFile(filepath.Join(host, "fifo/f"), nil, 0o600))
	must(t, unix.Mkfifo(filepath.Join(host, "fifo/sub/pipe"), 0o600))
	must(t, unix.Mkfifo(filepath.Join(host, "pipe"), 0o600))
	at := func(name string) string { return filepath.Join(host, name) }
	push := func(a *Actor, from, to string) error { return a.PushFile(ctx, at(from), to, guest.Perm{}) }
	for name, a := range all {
		must(t, a.Mkdir(ctx, "/"+name, false, guest.Perm{}))
		to := "/" + name + "/d"
		wantError(t, push(a, "fifo", to), "push_file "+at("fifo")+" -> "+to+": host file "+
			at("fifo/sub/pipe")+": it is a FIFO; only regular files, directories and symbolic links are copied")
		wantError(t, push(a, "pipe", to), at("pipe")+": it is a FIFO")
		wantError(t, push(a, "none", to), "push_file "+at("none")+" -> "+to+": host file "+
			at("none")+": no such file or directory")
		if _, err := os.Lstat(vm.guest.path(to)); !errors.Is(err, fs.ErrNotExist) {
			t.Error("something was copied")
		}
		must(t, a.WriteFile(ctx, to, []byte("x")))
		must(t, os.RemoveAll(at("dir")))
		must(t, os.MkdirAll(at("dir/sub"), 0o755))
		wantError(t, push(a, "dir", to),
			"vm `a`: push_file "+at("dir")+" -> "+to+": Not a directory (ENOTDIR, os error 20)")
		wantError(t, push(a, "dir", to+"/x"), "vm `a`: push_file "+at("dir")+" -> "+to+"/x: Not a directory (ENOTDIR")
		must(t, a.Mkdir(ctx, "/"+name+"/full/sub", true, guest.Perm{}))
		must(t, a.WriteFile(ctx, "/"+name+"/full/sub/f", nil))
		must(t, os.Remove(at("dir/sub")))
		must(t, os.Symlink("x", at("dir/sub")))
		wantError(t, push(a, "dir", "/"+name+"/full"), at("dir/sub")+" -> /"+name+"/full/sub: File exists (EEXIST")

		pull := func(from, to string) error { return a.PullFile(ctx, from, to) }
		must(t, unix.Mkfifo(vm.guest.path("/"+name+"/full/sub/pipe"), 0o600))
		back := filepath.Join(t.TempDir(), "back")
		from := "/" + name + "/full"
		wantError(t, pull(from, back),
			"pull_file "+from+" -> "+back+": "+from+"/sub/pipe is a fifo; only regular files")
		wantError(t, pull("/"+name+"/none", back),
			"vm `a`: pull_file /"+name+"/none -> "+back+": No such file or directory (ENOENT")
		wantError(t, pull(to, host), "host path "+host+" is a directory; name the file")
		wantError(t, pull(to, at("pipe")), "host path "+at("pipe")+" is there and is not a regular file")
		wantError(t, pull(to, at("no/f")), "pull_file "+to+" -> "+at("no/f")+": host file "+
			at("no/f")+": no such file or directory")
		must(t, os.Remove(vm.guest.path(from+"/sub/pipe")))
		wantError(t, pull(from, at("fifo/f")), "host file "+at("fifo/f")+": not a directory")
		if _, err := os.Lstat(back); !errors.Is(err, fs.ErrNotExist) {
			t.Error("something was copied")
		}
	}
}

// TestHostileTree has a guest list what no directory has.
func TestHostileTree(t *testing.T) {
	vm, all := actors(t)
	a, ctx := all["worker"], t.Context()
	must(t, a.Mkdir(ctx, "/d", false, guest.Perm{}))
	outside := t.TempDir()
	list := func(entries ...[]byte) {
		vm.guest.onSyscall(wire.CallGetdents64, func(_ *wire.Syscall, bufs [][]byte) (int64, uint32) {
			all := slices.Concat(entries...)
			entries = nil
			return int64(copy(bufs[0], all)), 0
		})
	}
	for _, name := range []string{"../x", "a/b", "/etc", "", strings.Repeat("n", 256)} {
		back := filepath.Join(t.TempDir(), "back")
		list(encodeEntry("good", unix.DT_LNK), encodeEntry(name, unix.DT_REG))
		wantError(t, a.PullFile(ctx, "/d", back), "which cannot be the name of a file")
		if _, err := os.Lstat(back); !errors.Is(err, fs.ErrNotExist) {
			t.Error("something was copied")
		}
	}

	// A link, and a directory of the same name with a file that would be behind the link.
	vm.guest.onSyscall(wire.CallReadlinkat, func(_ *wire.Syscall, bufs [][]byte) (int64, uint32) {
		return int64(copy(bufs[1], outside)), 0
	})
	dir := encodeEntry("a", unix.DT_DIR)
	link := encodeEntry("a", unix.DT_LNK)
	file := encodeEntry("f", unix.DT_REG)
	for _, first := range [][]byte{slices.Concat(link, dir), slices.Concat(dir, link)} {
		level := 0
		vm.guest.onSyscall(wire.CallOpenat, func(*wire.Syscall, [][]byte) (int64, uint32) {
			fd, err := unix.Open(vm.guest.path("/d"), unix.O_RDONLY, 0)
			must(t, err)
			return int64(fd), 0
		})
		vm.guest.onSyscall(wire.CallGetdents64, func(_ *wire.Syscall, bufs [][]byte) (int64, uint32) {
			level++
			switch level {
			case 1:
				return int64(copy(bufs[0], first)), 0
			case 3:
				return int64(copy(bufs[0], file)), 0
			}
			return 0, 0
		})
		back := filepath.Join(t.TempDir(), "back")
		if err := a.PullFile(ctx, "/d", back); err == nil {
			t.Error("not refused")
		}
		entries, err := os.ReadDir(outside)
		must(t, err)
		if len(entries) > 0 {
			t.Errorf("outside has %v", entries)
		}
	}
	vm.guest.onSyscall(wire.CallOpenat, nil)
	vm.guest.onSyscall(wire.CallGetdents64, nil)
	vm.guest.onSyscall(wire.CallReadlinkat, nil)

	// A link that was on the host before is not followed out of the directory.
	must(t, a.Mkdir(ctx, "/d/way", false, guest.Perm{}))
	must(t, a.WriteFile(ctx, "/d/way/f", []byte("x")))
	back := filepath.Join(t.TempDir(), "back")
	must(t, os.Mkdir(back, 0o755))
	must(t, os.Symlink(outside, filepath.Join(back, "way")))
	wantError(t, a.PullFile(ctx, "/d", back),
		"pull_file /d/way -> "+back+"/way: host file "+back+"/way: path escapes from parent")

	p := &pull{fileOps: syscallFiles{a}, ctx: ctx, from: "/d", at: back, entriesLeft: 1}
	_, err := p.list()
	wantError(t, err, "there are more than 1048576 files")
	p = &pull{fileOps: syscallFiles{a}, ctx: ctx, from: "/d/way/f", at: back + "/f"}
	wantError(t, p.single(), "the guest has more than 68719476736 bytes of data")
	left, err := filepath.Glob(back + "/.pull-*")
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestTreesStop with their context.
func TestTreesStop(t *testing.T) {
	vm, all := actors(t)
	host := filepath.Join(t.TempDir(), "tree")
	makeTree(t, host)
	late := errors.New("too late")
	for name, a := range all {
		must(t, a.Mkdir(t.Context(), "/"+name, false, guest.Perm{}))
		must(t, a.PushFile(t.Context(), host, "/"+name+"/d", guest.Perm{}))
		for nr, do := range map[int64]func(context.Context) error{
			wire.CallSymlinkat: func(ctx context.Context) error {
				return a.PushFile(ctx, host, "/"+name+"/e", guest.Perm{})
			},
			wire.CallReadlinkat: func(ctx context.Context) error {
				return a.PullFile(ctx, "/"+name+"/d", filepath.Join(t.TempDir(), "back"))
			},
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			vm.guest.onSyscall(nr, func(_ *wire.Syscall, bufs [][]byte) (int64, uint32) {
				cancel(late)
				return int64(copy(bufs[len(bufs)-1], "x")), 0
			})
			if err := do(ctx); !errors.Is(err, late) {
				t.Errorf("%s: %v", name, err)
			}
			vm.guest.onSyscall(nr, nil)
			cancel(nil)
		}
	}
}
