package userland

import (
	"context"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"provium/internal/erofs"
)

// hostTrees are what a guest has of the host: programs, libraries and their configuration.
var hostTrees = [...]string{
	"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "nix/store", "gnu/store", "var/lib/dpkg",
}

// emptyDirs are directories that programs expect, with their permissions.
var emptyDirs = [...]struct {
	name string
	perm uint32
}{
	{"boot", 0o755}, {"dev", 0o755}, {"home", 0o755}, {"media", 0o755}, {"mnt", 0o755}, {"proc", 0o555},
	{"root", 0o700}, {"run", 0o755}, {"srv", 0o755}, {"sys", 0o555}, {"tmp", 0o1777}, {"var/cache", 0o755},
	{"var/lib", 0o755}, {"var/log", 0o755}, {"var/spool", 0o755}, {"var/tmp", 0o1777},
}

// ownFiles are what says which machine this is: the guest is another one.
var ownFiles = [...]struct{ name, content string }{
	{"etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
	{"etc/hostname", "provium\n"},
	{"etc/fstab", ""},
	{"etc/resolv.conf", ""},
	{"etc/machine-id", ""},
}

// ofHost returns the programs of the machine whose root directory is given. What only some of
// its users may read is left out, so that it makes no difference who looks.
func ofHost(ctx context.Context, root string) (*tree, error) {
	t := newTree()
	look := newLister(true) // owners matter: a file of the user's in /opt is not root's
	defer look.end()
	s := newScanner(t, look)
	for _, name := range hostTrees {
		path := filepath.Join(root, name)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			continue
		}
		dir, base := splitLast(name)
		to, err := t.dir(dir)
		if err == nil {
			err = s.addPath(ctx, to, path, base)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, d := range emptyDirs {
		dir, base := splitLast(d.name)
		to, err := t.dir(dir)
		if err != nil {
			return nil, err
		}
		if to.Child(base) == nil {
			if err := to.Add(base, erofs.NewDir(d.perm)); err != nil {
				return nil, err
			}
		}
	}
	for _, f := range ownFiles {
		dir, base := splitLast(f.name)
		to, err := t.dir(dir)
		if err == nil {
			err = to.Add(base, &erofs.Node{Mode: unix.S_IFREG | 0o644, Data: []byte(f.content)})
		}
		if err != nil {
			return nil, err
		}
	}
	return t, addHostLinks(t, root)
}

// addHostLinks adds the symlinks of /var, which are a part of how a system is laid out.
func addHostLinks(t *tree, root string) error {
	to, err := t.dir("var")
	if err != nil {
		return err
	}
	for _, name := range []string{"run", "lock"} {
		target, err := os.Readlink(root + "/var/" + name)
		if err != nil {
			continue
		}
		if err := to.Add(name, &erofs.Node{Mode: unix.S_IFLNK | 0o777, Target: target}); err != nil {
			return err
		}
	}
	return nil
}
