package agent

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

func open(path string, flags int, perm uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, perm)
		return err
	})
	return fd, err
}

func read(fd int, p []byte) (n int, err error) {
	err = retry(func() error {
		n, err = unix.Read(fd, p)
		return err
	})
	return max(n, 0), err
}

func write(fd int, p []byte) (n int, err error) {
	err = retry(func() error {
		n, err = unix.Write(fd, p)
		return err
	})
	return max(n, 0), err
}

// transfers are the calls that move a file's bytes. Those of a file in memory
// cannot wait for a device, so that they need not tell the scheduler, which would
// have another thread take over in the middle of each. It pays for bulk data
// only: to ask for the kind of file system may itself take long.
func transfers(fd int, bulk bool) (get, put func(fd int, p []byte) (int, error)) {
	var fs unix.Statfs_t
	if bulk && retry(func() error { return unix.Fstatfs(fd, &fs) }) == nil && inMemory(&fs) {
		return readNow, writeNow
	}
	return read, write
}

func (o *op) readFile(r *wire.ReadFile) (wire.Value, error) {
	fd, err := open(r.Path, unix.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if r.Max > 0 && st.Mode&unix.S_IFMT == unix.S_IFREG && uint64(st.Size) > r.Max {
		return nil, tooLarge(fmt.Sprintf("file has %d bytes", st.Size), r.Max)
	}
	get, _ := transfers(fd, st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > wire.ChunkSize)
	v := &wire.FileValue{Perm: st.Mode & 0o7777}
	if !o.batch && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > wire.ChunkSize {
		o.session.send(wire.AppendExpect(nil, o.id, wire.StreamData, uint64(st.Size)))
	}
	b := o.agent.buffer()
	defer o.agent.release(b)
	n, total := 0, uint64(0)
	for {
		if o.ctx.Err() != nil {
			return nil, context.Canceled
		}
		k, err := get(fd, b.payload()[n:])
		if err != nil {
			return nil, err
		}
		n += k
		if total += uint64(k); r.Max > 0 && total > r.Max {
			return nil, tooLarge("file has more", r.Max)
		}
		if k == 0 {
			break
		}
		if n == wire.ChunkSize {
			if err := o.stream(wire.StreamData, b, n); err != nil {
				return nil, err
			}
			n = 0
		}
	}
	if n > o.inline {
		return v, o.stream(wire.StreamData, b, n)
	}
	o.inline -= n
	v.Data = append([]byte(nil), b.payload()[:n]...)
	return v, nil
}

func tooLarge(what string, limit uint64) error {
	return errnoText(syscall.EFBIG,
		fmt.Sprintf("File too large: %s, and read_file takes at most %d; use tail_file or open_file", what, limit))
}

func (o *op) writeFile(r *wire.WriteFile, body *body) error {
	perm := uint32(0o644)
	if r.SetPerm {
		perm = r.Perm & 0o777
	}
	fd, err := open(r.Path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOCTTY, perm)
	if err != nil {
		return err
	}
	_, put := transfers(fd, r.Data.Streamed())
	err = func() error {
		for {
			p, err := body.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			for len(p) > 0 {
				n, err := put(fd, p)
				if err != nil {
					return err
				}
				p = p[n:]
			}
		}
		if r.SetPerm {
			// After the contents: a write clears the set-id bits.
			return unix.Fchmod(fd, r.Perm)
		}
		return nil
	}()
	if e := unix.Close(fd); err == nil && e != unix.EINTR {
		err = e
	}
	return err
}

func stat(r *wire.Stat) (wire.Value, error) {
	flags := 0
	if r.NoFollow {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(unix.AT_FDCWD, r.Path, &st, flags) }); err != nil {
		return nil, err
	}
	return &wire.StatValue{
		Size:    uint64(max(st.Size, 0)),
		MtimeNS: unix.TimespecToNsec(st.Mtim),
		Perm:    st.Mode & 0o7777,
		Type:    entryType(st.Mode),
	}, nil
}

func entryType(mode uint32) wire.EntryType {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return wire.TypeFile
	case unix.S_IFDIR:
		return wire.TypeDirectory
	case unix.S_IFLNK:
		return wire.TypeSymlink
	case unix.S_IFIFO:
		return wire.TypeFIFO
	case unix.S_IFSOCK:
		return wire.TypeSocket
	case unix.S_IFBLK:
		return wire.TypeBlockDevice
	case unix.S_IFCHR:
		return wire.TypeCharDevice
	}
	return wire.TypeOther
}

func listDir(r *wire.ListDir) (wire.Value, error) {
	entries, err := os.ReadDir(r.Path)
	if err != nil {
		return nil, err
	}
	v := make(wire.EntriesValue, len(entries))
	for i, e := range entries {
		v[i] = wire.Entry{Name: e.Name(), Type: fromMode(e.Type())}
	}
	return v, nil
}

func fromMode(m os.FileMode) wire.EntryType {
	switch {
	case m.IsRegular():
		return wire.TypeFile
	case m.IsDir():
		return wire.TypeDirectory
	case m&os.ModeSymlink != 0:
		return wire.TypeSymlink
	case m&os.ModeNamedPipe != 0:
		return wire.TypeFIFO
	case m&os.ModeSocket != 0:
		return wire.TypeSocket
	case m&os.ModeCharDevice != 0:
		return wire.TypeCharDevice
	case m&os.ModeDevice != 0:
		return wire.TypeBlockDevice
	}
	return wire.TypeOther
}

func mkdir(r *wire.Mkdir) error {
	if r.Parents {
		for i := 1; i < len(r.Path); i++ {
			if r.Path[i] != '/' || r.Path[i-1] == '/' || strings.Trim(r.Path[i:], "/") == "" {
				continue
			}
			if err := makeDir(r.Path[:i], 0o755, true); err != nil {
				return err
			}
		}
	}
	perm := uint32(0o755)
	if r.SetPerm {
		perm = r.Perm
	}
	return makeDir(r.Path, perm, r.Parents)
}

// makeDir makes one directory with exactly this mode, whatever the umask is.
func makeDir(path string, perm uint32, existing bool) error {
	err := retry(func() error { return unix.Mkdir(path, perm) })
	if err == nil && perm != 0o755 {
		return unix.Chmod(path, perm)
	}
	if err == nil || !existing {
		return err
	}
	// mkdir has other reasons than EEXIST to refuse a directory that is there
	// (a read-only file system, a missing permission).
	var st unix.Stat_t
	if e := unix.Stat(path, &st); e != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	return nil
}

func unlink(r *wire.Unlink) error {
	err := retry(func() error { return unix.Unlink(r.Path) })
	if err == unix.EISDIR {
		err = retry(func() error { return unix.Rmdir(r.Path) })
	}
	return err
}
