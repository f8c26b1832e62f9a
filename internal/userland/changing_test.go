package userland

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/erofs"
	"provium/internal/hostfault"
)

// link makes a symlink, and the directories above it.
func link(t *testing.T, target, path string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.Symlink(target, path))
}

// TestChangingTree looks at a directory while files come, go, grow and change their types. What it returns is
// complete: each file either has the bytes that it was looked at with, or says that it has changed.
func TestChangingTree(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/stays", "content", 0o644)
	put(t, dir+"/outside/secret", "secret", 0o644)
	root := dir + "/root"
	put(t, root+"/stays", "content", 0o644)
	done := make(chan struct{})
	var changes sync.WaitGroup
	changes.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			at := fmt.Sprintf("%s/d%d", root, i%5)
			switch i % 4 { // errors are those of what is there already, or not any more
			case 0:
				_ = os.MkdirAll(at, 0o755)
				_ = os.WriteFile(at+"/f", []byte(strings.Repeat("x", i%9000)), 0o644)
			case 1:
				_ = os.RemoveAll(at)
				_ = os.Symlink(dir+"/outside", at)
			case 2:
				_ = os.Remove(at)
				_ = os.WriteFile(at, []byte(fmt.Sprint(i)), 0o644)
			case 3:
				_ = os.Rename(at, fmt.Sprintf("%s/d%d", root, (i+2)%5))
			}
		}
	})
	defer changes.Wait()
	defer close(done)
	for range 40 {
		m := newMaker(t)
		u, err := m.Make(t.Context(), Source{Kind: Directory, Path: root})
		must(t, err)
		c, err := Open(u.Index)
		must(t, err)
		for i := range c.x.Extents {
			e, err := c.x.extent(i)
			must(t, err)
			s, err := c.x.source(e.source)
			must(t, err)
			p := make([]byte, e.size)
			_, err = c.ReadAt(p, e.at)
			gone := err != nil && (strings.Contains(err.Error(), "has changed since") ||
				errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP))
			if err != nil && !gone {
				t.Errorf("%s: %v", s.path, err)
			}
			if strings.Contains(string(p), "secret") || strings.HasSuffix(s.path, "/secret") {
				t.Errorf("%s is not in the tree", s.path)
			}
			if s.path == root+"/stays" && (err != nil || string(p) != "content") {
				t.Errorf("%q, %v", p, err)
			}
		}
		must(t, c.Close())
	}
}

// TestUserlandHostFaults makes a userland while calls of the host fail, of which a full disk is one: the error says
// why, nothing half is left, and the next try has what a try without faults has.
func TestUserlandHostFaults(t *testing.T) {
	outer := t
	want := sync.OnceValues(func() (string, *Userland) {
		dir := outer.TempDir()
		put(outer, dir+"/bin/sh", strings.Repeat("shell", 5000), 0o755)
		put(outer, dir+"/etc/motd", "hello", 0o644)
		link(outer, "/bin/sh", dir+"/sbin/init")
		u, err := newMaker(outer).Make(outer.Context(), Source{Kind: Directory, Path: dir})
		must(outer, err)
		return dir, u
	})
	hostfault.Sweep(t, func(t *testing.T, fault *hostfault.Fault) {
		dir, want := want()
		m := newMaker(t)
		var u *Userland
		var err error
		fault.During(func() { u, err = m.Make(t.Context(), Source{Kind: Directory, Path: dir}) })
		switch {
		case err == nil && (u.Key != want.Key || u.HasInit != want.HasInit):
			t.Errorf("with the fault: %+v", u)
		case err != nil && !strings.HasPrefix(err.Error(), "userland `"+dir+"`: "):
			t.Errorf("the error is %v", err)
		case err != nil && strings.Contains(fault.What(), "ENOSPC") && !strings.Contains(err.Error(), "no space left"):
			t.Errorf("%s: the error is %v", fault.What(), err)
		}
		if err := filepath.WalkDir(m.Cache.Dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(d.Name(), ".") && !fault.Lasting() &&
				!strings.HasPrefix(fault.What(), "unlinkat") {
				t.Errorf("%s stays", path)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if u, err = m.Make(t.Context(), Source{Kind: Directory, Path: dir}); err != nil || u.Key != want.Key {
			t.Errorf("afterwards: %+v, %v", u, err)
		}
	})
}

// TestSymlinksStayInside follows absolute and escaping symlinks of an archive, which lead nowhere but into the tree.
func TestSymlinksStayInside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.tar")
	put(t, path, string(pack(t, []tar.Header{
		{Name: "sub/absolute", Typeflag: tar.TypeSymlink, Linkname: "/real"},
		{Name: "up", Typeflag: tar.TypeSymlink, Linkname: "../../../../real"},
		{Name: "real/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "sub/absolute/a", Typeflag: tar.TypeReg, Mode: 0o644, Size: 2},
		{Name: "up/b", Typeflag: tar.TypeReg, Mode: 0o644, Size: 2},
		{Name: "../../outside", Typeflag: tar.TypeReg, Mode: 0o644, Size: 2},
		{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../up/b"},
		{Name: "dangling", Typeflag: tar.TypeSymlink, Linkname: "/none/at/all"},
	})), 0o644)
	tr, err := ofArchive(t.Context(), path)
	must(t, err)
	got := describe(t, tr)
	for name, want := range map[string]string{
		"/real/a": "100644 aa", "/real/b": "100644 bb", "/outside": "100644 ee", "/hard": "100644 bb",
		"/sub/absolute": "120000 /real", "/up": "120000 ../../../../real", "/dangling": "120000 /none/at/all",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	loop := path + ".loop"
	put(t, loop, string(pack(t, []tar.Header{{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "b"},
		{Name: "b", Typeflag: tar.TypeSymlink, Linkname: "/a"}, {Name: "a/f", Typeflag: tar.TypeReg}})), 0o644)
	if _, err := ofArchive(t.Context(), loop); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop of symlinks: %v", err)
	}
}

// TestSpecialFiles has what directories can have beside files: hard links, pipes, sockets, devices, extended
// attributes and capabilities.
func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/f", "content", 0o755)
	must(t, os.Link(dir+"/f", dir+"/again"))
	must(t, unix.Mkfifo(dir+"/pipe", 0o600))
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(sock)
	must(t, unix.Bind(sock, &unix.SockaddrUnix{Name: dir + "/sock"}))
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // cap_net_bind_service=ep
	attrs := map[string][]byte{"user.note": []byte("hello"), "trusted.overlay.opaque": []byte("y"),
		"security.capability": capability}
	for name, value := range attrs {
		if err := unix.Setxattr(dir+"/f", name, value, 0); err != nil {
			t.Logf("%s: %v", name, err)
			delete(attrs, name)
		}
	}
	delete(attrs, "trusted.overlay.opaque") // of the host
	must(t, unix.Chmod(dir+"/f", 0o4755))
	devices := unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) == nil
	tr, err := ofDirectory(t.Context(), dir)
	must(t, err)
	f := tr.root.Child("f")
	if f.Mode != unix.S_IFREG|0o4755 || f.Links() != 2 || tr.root.Child("again") != f || len(f.Xattrs) != len(attrs) {
		t.Errorf("%+v", f)
	}
	for _, x := range f.Xattrs {
		if string(attrs[x.Name]) != string(x.Value) {
			t.Errorf("%s is %q", x.Name, x.Value)
		}
	}
	if n := tr.root.Child("pipe"); n == nil || n.Type() != unix.S_IFIFO {
		t.Errorf("the pipe: %+v", n)
	}
	if n := tr.root.Child("sock"); n != nil {
		t.Errorf("the socket: %+v", n)
	}
	if n := tr.root.Child("null"); devices && (n == nil || n.Type() != unix.S_IFCHR || n.Major != 1 || n.Minor != 3) {
		t.Errorf("the device: %+v", n)
	}
	if _, err := erofs.Layout(tr.root); err != nil {
		t.Error(err)
	}
}
