package file

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/agent/session"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// transfers returns the calls that move a file's bytes. Those of a file in memory
// cannot wait for a device and need not tell the scheduler, which would let
// another thread take over in the middle of each. It pays for bulk data only: to
// ask for the kind of file system may itself take long.
func transfers(in *sys.Interruptible, fd int, bulk bool) (get, put func(fd int, p []byte) (int, error)) {
	var fs unix.Statfs_t
	if bulk && in.Do(func() error { return unix.Fstatfs(fd, &fs) }) == nil && sys.InMemory(&fs) {
		return sys.ReadNow, sys.WriteNow
	}
	return in.Read, in.Write
}

// Read reads a file whole. With announce it tells the host how many bytes are
// about to come.
func Read(o *session.Op, r *wire.ReadFile, announce bool) (wire.Value, error) {
	in := sys.NewInterruptible(o.Context())
	defer in.Close()
	fd, err := in.Open(r.Path, unix.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := in.Do(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, err
	}
	if r.Max > 0 && st.Mode&unix.S_IFMT == unix.S_IFREG && uint64(st.Size) > r.Max {
		return nil, tooLarge(fmt.Sprintf("file has %d bytes", st.Size), r.Max)
	}
	get, _ := transfers(in, fd, st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > wire.ChunkSize)
	v := &wire.FileValue{Perm: st.Mode & 0o7777}
	if r.Pieces {
		return v, sendPieces(o, in, fd, &st, get)
	}
	if announce && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > wire.ChunkSize {
		o.Expect(uint64(st.Size))
	}
	b := o.Buffer()
	defer o.Release(b)
	n, total := 0, uint64(0)
	for {
		if o.Context().Err() != nil {
			return nil, context.Canceled
		}
		k, err := get(fd, b.Payload()[n:])
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
			if err := o.Stream(wire.StreamData, b, n); err != nil {
				return nil, err
			}
			n = 0
		}
	}
	if !o.Inline(n) {
		return v, o.Stream(wire.StreamData, b, n)
	}
	v.Data = append([]byte(nil), b.Payload()[:n]...)
	return v, nil
}

func tooLarge(what string, limit uint64) error {
	return wire.ErrnoText(uint32(unix.EFBIG),
		fmt.Sprintf("File too large: %s, and read_file takes at most %d; use tail_file or open_file", what, limit))
}

// Write creates or replaces a file.
func Write(o *session.Op, r *wire.WriteFile, body *session.Body) error {
	in := sys.NewInterruptible(o.Context())
	defer in.Close()
	perm := uint32(0o644)
	if r.SetPerm {
		perm = r.Perm & 0o777
	}
	fd, err := in.Open(r.Path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOCTTY, perm)
	if err != nil {
		return err
	}
	_, put := transfers(in, fd, r.Data.Streamed())
	to := &target{op: o, in: in, fd: fd, put: put}
	err = func() error {
		if r.Pieces {
			err = to.takePieces(body)
		} else {
			err = to.takeAll(body)
		}
		if err != nil {
			return err
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

// target is a file that is being written.
type target struct {
	op  *session.Op
	in  *sys.Interruptible
	fd  int
	put func(fd int, p []byte) (int, error)
}

// takeAll writes everything from body.
func (t *target) takeAll(body *session.Body) error {
	for {
		p, err := body.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = t.write(p)
		}
		if err != nil {
			return err
		}
	}
}

func (t *target) write(p []byte) error {
	for len(p) > 0 {
		if t.op.Context().Err() != nil {
			return context.Canceled
		}
		n, err := t.put(t.fd, p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// Stat describes what a path leads to.
func Stat(r *wire.Stat) (wire.Value, error) {
	flags := 0
	if r.NoFollow {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	var st unix.Stat_t
	if err := sys.Retry(func() error { return unix.Fstatat(unix.AT_FDCWD, r.Path, &st, flags) }); err != nil {
		return nil, err
	}
	return &wire.StatValue{
		Size:    uint64(max(st.Size, 0)),
		MtimeNS: unix.TimespecToNsec(st.Mtim),
		Perm:    st.Mode & 0o7777,
		Type:    entryType(st.Mode),
		FileNumbers: wire.FileNumbers{
			Ino: st.Ino, UID: uint64(st.Uid), GID: uint64(st.Gid), Nlink: uint64(st.Nlink), Rdev: st.Rdev,
			Blocks:  uint64(max(st.Blocks, 0)),
			AtimeNS: unix.TimespecToNsec(st.Atim), CtimeNS: unix.TimespecToNsec(st.Ctim),
		},
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

// List returns the entries of a directory.
func List(r *wire.ListDir) (wire.Value, error) {
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

// Mkdir creates a directory, with its parents if that is wanted.
func Mkdir(r *wire.Mkdir) error {
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

// makeDir creates one directory with exactly this mode, whatever the umask is.
func makeDir(path string, perm uint32, existing bool) error {
	err := sys.Retry(func() error { return unix.Mkdir(path, perm) })
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

// Unlink removes a file or an empty directory.
func Unlink(r *wire.Unlink) error {
	err := sys.Retry(func() error { return unix.Unlink(r.Path) })
	if err == unix.EISDIR {
		err = sys.Retry(func() error { return unix.Rmdir(r.Path) })
	}
	return err
}

// Rename moves a file within its file system.
func Rename(r *wire.Rename) error {
	return sys.Retry(func() error { return unix.Rename(r.From, r.To) })
}
