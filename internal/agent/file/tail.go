package file

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/agent/session"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// tail follows one file.
type tail struct {
	op   *session.Op
	in   *sys.Interruptible
	path string // "" for a descriptor
	fd   int    // -1 while the path leads nowhere
	at   int64  // offset of the next byte, in a file that has offsets
	size int64  // of the file, as far as was seen; one that is less now was truncated
	ino  unix.Stat_t

	notify *os.File // inotify
	watch  int      // on the file itself, -1 when none
	b      *session.Buffer
}

// Worker is where a path leads for a process with another root, directory or
// credentials.
type Worker interface {
	// OpenAs opens a path as the worker does.
	OpenAs(ctx context.Context, path string, flags int) (fd int, err error)
	// View returns the agent's path to what the worker finds at path.
	View(path string) string
}

// Tail streams a file and what is added to it. w is the worker that has the
// path, nil for the agent itself.
func Tail(o *session.Op, r *wire.TailFile, w Worker) error {
	t := &tail{op: o, in: sys.NewInterruptible(o.Context()), path: r.Path, fd: -1, watch: -1}
	defer t.close()
	reopen := func(flags int) (int, error) { return t.in.Open(r.Path, flags, 0) }
	if w != nil {
		reopen = func(flags int) (int, error) { return w.OpenAs(o.Context(), r.Path, flags) }
		t.path = w.View(r.Path)
	}
	fd, err := reopen(unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY)
	if err != nil {
		return err
	}
	t.fd, t.b = fd, o.Buffer()
	if err := unix.Fstat(fd, &t.ino); err != nil {
		return err
	}
	switch t.ino.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return syscall.EISDIR
	case unix.S_IFIFO:
		// With a writing end of our own it never ends.
		rw, err := reopen(unix.O_RDWR | unix.O_NONBLOCK)
		if err != nil {
			return err
		}
		unix.Close(t.fd)
		t.fd = rw
	}
	if polls(t.fd) {
		if err := t.seekDevice(r); err != nil {
			return err
		}
		return t.followDevice()
	}
	if err := t.openNotify(); err != nil {
		return err
	}
	t.at = r.Start
	if r.FromEnd {
		// The size counts now that the watch is there: nothing is missed.
		if err := unix.Fstat(t.fd, &t.ino); err != nil {
			return err
		}
		t.at = max(0, t.ino.Size+r.Start)
	}
	return t.followFile()
}

func (t *tail) close() {
	if t.fd >= 0 {
		unix.Close(t.fd)
	}
	if t.notify != nil {
		t.notify.Close()
	}
	if t.b != nil {
		t.op.Release(t.b)
	}
	t.in.Close()
}

// TailDescriptor streams what a descriptor, which it closes, gives from its cursor
// on. The cursor of a file that has one stays where it is.
func TailDescriptor(o *session.Op, fd int) (err error) {
	t := &tail{op: o, in: sys.NewInterruptible(o.Context()), fd: fd, watch: -1, b: o.Buffer()}
	defer t.close()
	if err := unix.Fstat(fd, &t.ino); err != nil {
		return err
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	if flags&unix.O_ACCMODE == unix.O_WRONLY || flags&unix.O_PATH != 0 {
		return &wire.Error{Text: "the descriptor is open for writing only, and a stream reads from it"}
	}
	if polls(fd) {
		return t.followShared()
	}
	if t.at, err = unix.Seek(fd, 0, unix.SEEK_CUR); err != nil {
		return err
	}
	if err := t.openNotify(); err != nil {
		return err
	}
	return t.followFile()
}

// followShared streams a descriptor that the executor has open too. What it is
// set to must not change, so it is waited for on an epoll instance and read
// when there is something.
func (t *tail) followShared() error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	f, raw, err := sys.Pollable(ep, "epoll")
	if err != nil {
		return err
	}
	defer f.Close()
	event := unix.EpollEvent{Events: unix.EPOLLIN}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, t.fd, &event); err != nil {
		return err
	}
	stop := context.AfterFunc(t.op.Context(), func() { _ = f.SetReadDeadline(sys.Past) })
	defer stop()
	t.op.Opened()
	for {
		if err := raw.Read(func(fd uintptr) bool {
			n, err := sys.PollNow([]unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}})
			return n > 0 || err != nil
		}); err != nil {
			if t.op.Context().Err() != nil {
				return context.Canceled
			}
			return err
		}
		n, err := t.in.Read(t.fd, t.b.Payload()[:wire.ChunkSize])
		switch {
		case err == unix.EAGAIN:
			continue
		case err == unix.EIO || n == 0 && err == nil:
			return nil
		case err != nil:
			return err
		}
		if err := t.op.Stream(wire.StreamData, t.b, n); err != nil {
			return err
		}
	}
}

// polls reports whether a descriptor can be waited for, as those of regular
// files cannot.
func polls(fd int) bool {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(ep)
	return unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}) == nil
}

// seekDevice goes to where the tail begins, as far as the file knows of places.
func (t *tail) seekDevice(r *wire.TailFile) error {
	if !r.FromEnd {
		_, err := unix.Seek(t.fd, r.Start, unix.SEEK_SET)
		if r.Start == 0 {
			err = nil
		}
		return err
	}
	_, err := unix.Seek(t.fd, 0, unix.SEEK_END) // /dev/kmsg knows it
	if err == nil || t.ino.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	// Of the others under /proc what they have now is thrown away.
	for {
		n, _ := t.in.Read(t.fd, t.b.Payload()[:wire.ChunkSize])
		if n == 0 {
			return nil
		}
	}
}

// followDevice streams a descriptor that can be waited for, until its end.
func (t *tail) followDevice() error {
	f, raw, err := sys.Pollable(t.fd, t.path)
	t.fd = -1
	if err != nil {
		return err
	}
	defer f.Close()
	stop := context.AfterFunc(t.op.Context(), func() { _ = f.SetReadDeadline(sys.Past) })
	defer stop()
	t.op.Opened()
	for {
		n, readErr := 0, error(nil)
		err := raw.Read(func(fd uintptr) bool {
			n, readErr = unix.Read(int(fd), t.b.Payload()[:wire.ChunkSize])
			// An end of file may be the present end of a file under /proc
			// that can be polled for more.
			return n > 0 || readErr != nil && readErr != unix.EAGAIN && readErr != unix.EINTR
		})
		switch {
		case t.op.Context().Err() != nil:
			return context.Canceled
		case err != nil:
			return err
		case readErr == unix.EPIPE:
			continue // /dev/kmsg has overwritten records; the next one follows
		case readErr == unix.EIO:
			return nil // the other end of a terminal is gone
		case readErr != nil:
			return readErr
		}
		if err := t.op.Stream(wire.StreamData, t.b, n); err != nil {
			return err
		}
	}
}

// openNotify watches the file, and its directory for a successor.
func (t *tail) openNotify() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return err
	}
	if t.notify, _, err = sys.Pollable(fd, "inotify"); err != nil {
		return err
	}
	if err := t.watchFile(); err != nil {
		return err
	}
	if t.path != "" {
		// File systems without a directory to speak of, such as /proc, have
		// no successors either.
		_, _ = unix.InotifyAddWatch(fd, filepath.Dir(t.path), unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	}
	return nil
}

// watchFile puts the watch on the file that is open.
func (t *tail) watchFile() error {
	raw, err := t.notify.SyscallConn()
	if err != nil {
		return err
	}
	_ = raw.Control(func(fd uintptr) {
		if t.watch >= 0 {
			_, _ = unix.InotifyRmWatch(int(fd), uint32(t.watch))
		}
		t.watch, err = unix.InotifyAddWatch(int(fd), sys.DescriptorPath(t.fd),
			unix.IN_MODIFY|unix.IN_ATTRIB|unix.IN_MOVE_SELF|unix.IN_DELETE_SELF)
	})
	return err
}

// followFile streams a regular file and its successors for ever.
func (t *tail) followFile() error {
	stop := context.AfterFunc(t.op.Context(), func() { _ = t.notify.SetReadDeadline(sys.Past) })
	defer stop()
	t.op.Opened()
	events := make([]byte, 4096)
	for {
		if err := t.catchUp(); err != nil {
			return err
		}
		if _, err := t.notify.Read(events); err != nil {
			if t.op.Context().Err() != nil {
				return context.Canceled
			}
			return err
		}
	}
}

// catchUp streams what the file has, and goes on with the file that the path
// leads to by now.
func (t *tail) catchUp() error {
	for {
		if err := t.readOn(); err != nil {
			return err
		}
		if t.path == "" {
			return nil
		}
		var now unix.Stat_t
		if unix.Stat(t.path, &now) != nil || now.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil // renamed or removed; the successor will be announced
		}
		if now.Dev == t.ino.Dev && now.Ino == t.ino.Ino {
			return nil
		}
		fd, err := t.in.Open(t.path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != nil {
			return nil // gone again
		}
		// What was written to the old one until now is not lost.
		if err := t.readOn(); err != nil {
			unix.Close(fd)
			return err
		}
		unix.Close(t.fd)
		t.fd, t.at, t.size = fd, 0, 0
		if err := unix.Fstat(fd, &t.ino); err != nil {
			return err
		}
		if err := t.watchFile(); err != nil {
			return err
		}
	}
}

// readOn streams from the offset to the end of the file.
func (t *tail) readOn() error {
	var st unix.Stat_t
	if err := unix.Fstat(t.fd, &st); err != nil {
		return err
	}
	if st.Size < t.size && onDisk(t.fd) {
		t.at = 0
	}
	t.size = st.Size
	for {
		var n int
		err := t.in.Do(func() (err error) {
			n, err = unix.Pread(t.fd, t.b.Payload()[:wire.ChunkSize], t.at)
			return err
		})
		switch {
		case err != nil:
			return err
		case n == 0:
			return nil
		}
		if err := t.op.Stream(wire.StreamData, t.b, n); err != nil {
			return err
		}
		t.at += int64(n)
		t.size = max(t.size, t.at)
	}
}

// onDisk reports whether a file's size means something: that of files under
// /proc and /sys does not.
func onDisk(fd int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return true
	}
	switch fs.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.TRACEFS_MAGIC, unix.DEBUGFS_MAGIC, unix.CGROUP2_SUPER_MAGIC:
		return false
	}
	return true
}
