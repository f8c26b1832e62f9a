package userland

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/erofs"
)

// lister looks at directories of the host with several threads, as most of the time is spent in system calls. It finds
// the directories below those that it is given by itself.
type lister struct {
	// uid and gid are those of the user, whose files belong to the guest's root; -1 where owners stay as they are:
	// when the user is root, and with public.
	uid, gid int
	// public has the files that other users of the host may not read left out.
	public bool

	workers sync.WaitGroup
	mu      sync.Mutex
	more    sync.Cond
	todo    []*directory // the next one last
	ended   bool
}

// maxListers is how many threads look at directories: more of them wait for each other in the kernel.
const maxListers = 4

// directory is one whose files are to be added.
type directory struct {
	path string
	as   inode // that it had when it was looked at; zero for the root, which may be a symlink

	done  chan struct{} // closed when the fields below are final
	files []file
	err   error // why there are no files
}

// file is a file of a directory.
type file struct {
	name     string
	node     *erofs.Node // nil for what a tree does not have
	err      error       // why it cannot be looked at
	source   source      // of a regular file that is not empty
	id       inode
	hardLink bool       // it has several names
	below    *directory // set for a directory
}

// newLister starts to wait for directories. The caller must call end.
func newLister(public bool) *lister {
	l := &lister{uid: -1, gid: -1, public: public}
	if uid := os.Geteuid(); uid != 0 && !public {
		l.uid, l.gid = uid, os.Getegid()
	}
	l.more.L = &l.mu
	for range min(runtime.GOMAXPROCS(0), maxListers) {
		l.workers.Go(func() {
			for d := l.next(); d != nil; d = l.next() {
				d.files, d.err = l.list(d)
				below := make([]*directory, 0, 8)
				for i := range d.files {
					if b := d.files[i].below; b != nil {
						below = append(below, b)
					}
				}
				close(d.done)
				l.push(below...)
			}
		})
	}
	return l
}

// end stops the threads. What has not been looked at by then never is.
func (l *lister) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.more.Broadcast()
	l.workers.Wait()
}

// push has directories looked at, the first one first.
func (l *lister) push(list ...*directory) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range list {
		l.todo = append(l.todo, list[len(list)-1-i])
		l.more.Signal()
	}
}

// next waits for a directory to look at. It returns nil at the end.
func (l *lister) next() *directory {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.todo) == 0 && !l.ended {
		l.more.Wait()
	}
	if l.ended {
		return nil
	}
	last := len(l.todo) - 1
	d := l.todo[last]
	l.todo = l.todo[:last]
	return d
}

func newDirectory(path string, as inode) *directory {
	return &directory{path: path, as: as, done: make(chan struct{})}
}

// wait waits until the directory was looked at.
func (d *directory) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-d.done:
		return nil
	}
}

// list returns the files of a directory.
func (l *lister) list(d *directory) ([]file, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY
	if d.as != (inode{}) {
		flags |= unix.O_NOFOLLOW // it is not a symlink, unless it has become one
	}
	f, err := os.OpenFile(d.path, flags, 0)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if d.as != (inode{}) && d.as != (inode{st.Dev, st.Ino}) {
		return nil, nil
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, reason(err)
	}
	files := make([]file, len(names))
	for i, name := range names {
		if err := unix.Fstatat(int(f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			files[i] = file{name: name, err: err}
			continue
		}
		files[i] = l.file(join(d.path, name), name, &st)
	}
	return files, nil
}

// join returns the path of a file in a directory.
func join(dir, name string) string {
	if strings.HasSuffix(dir, "/") {
		return dir + name
	}
	return dir + "/" + name
}

// file looks at one file.
func (l *lister) file(path, name string, st *unix.Stat_t) file {
	f := file{name: name, id: inode{st.Dev, st.Ino}}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return f
	}
	if f.err = l.readable(path, st); f.err != nil {
		return f
	}
	if f.node, f.err = l.node(path, st); f.err != nil {
		f.node = nil
		return f
	}
	if f.node.IsDir() {
		f.below = newDirectory(path, f.id)
		return f
	}
	f.hardLink = st.Nlink > 1
	if f.node.Size > 0 {
		f.source = sourceOf(path, st)
	}
	return f
}

// readable returns an error for a file that the guest may not have.
func (l *lister) readable(path string, st *unix.Stat_t) error {
	bits, how := uint32(0o004), uint32(unix.R_OK)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		bits, how = 0o005, unix.R_OK|unix.X_OK
	case unix.S_IFREG:
	default:
		return nil
	}
	if !l.public {
		return unix.Access(path, how)
	}
	if st.Mode&bits != bits {
		return unix.EACCES
	}
	return nil
}

func (l *lister) node(path string, st *unix.Stat_t) (*erofs.Node, error) {
	n := &erofs.Node{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Seconds: st.Mtim.Sec, Nanoseconds: uint32(st.Mtim.Nsec)}
	if l.uid >= 0 && n.UID == uint32(l.uid) {
		n.UID = 0
	}
	if l.gid >= 0 && n.GID == uint32(l.gid) {
		n.GID = 0
	}
	switch n.Type() {
	case unix.S_IFREG:
		n.Size = st.Size
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if errors.Is(err, unix.EINVAL) {
			err = unix.ENOENT // it is not a symlink any more
		}
		if err != nil {
			return nil, reason(err)
		}
		n.Target = target
	case unix.S_IFCHR, unix.S_IFBLK:
		n.Major, n.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	if !l.public || n.Type() == unix.S_IFREG && n.Mode&0o111 != 0 { // capabilities of programs
		n.Xattrs = xattrs(path)
	}
	return n, nil
}

// maxXattrs is how many bytes of attributes a file may have behind its inode.
const maxXattrs = 4 << 10

// xattrs returns the extended attributes of a file that an image can have.
func xattrs(path string) []erofs.Xattr {
	var names [maxXattrs]byte
	k, err := unix.Llistxattr(path, names[:])
	if err != nil || k == 0 {
		return nil
	}
	var out []erofs.Xattr
	for name := range strings.SplitSeq(strings.TrimRight(string(names[:k]), "\x00"), "\x00") {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" && name != "security.selinux" {
			continue // the rest describes the host
		}
		value := make([]byte, maxXattrs)
		if k, err := unix.Lgetxattr(path, name, value); err == nil {
			out = append(out, erofs.Xattr{Name: name, Value: value[:k:k]})
		}
	}
	return out
}
