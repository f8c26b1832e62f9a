package handle

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/wire"
)

// syscallFiles are file operations made of the system calls of an actor, so that its
// credentials and namespaces decide.
type syscallFiles struct{ by *Actor }

// pathCall makes a system call with the working directory as argument 0 and a path as
// argument 1. It returns an error of operation op when the call fails.
func (f syscallFiles) pathCall(ctx context.Context, op, path string, s guest.Syscall) (*guest.SyscallResult, error) {
	s.Portable, s.Args[0] = true, unix.AT_FDCWD
	s.Bufs = append([][]byte{append([]byte(path), 0)}, s.Bufs...)
	s.Slots = append([]int{1}, s.Slots...)
	r, err := f.by.Syscall(ctx, op, s)
	if err == nil && r.Errno != 0 {
		err = f.by.errno(op, path, r.Errno)
	}
	return r, err
}

// open opens a file for one operation.
func (f syscallFiles) open(ctx context.Context, op, path string, flags int64) (fd int64, err error) {
	flags |= unix.O_CLOEXEC | unix.O_NOCTTY
	r, err := f.pathCall(ctx, op, path, guest.Syscall{Nr: wire.CallOpenat, Args: [6]int64{2: flags, 3: 0o644}})
	if err != nil {
		f.by.closeLate(ctx, op, r)
		return 0, err
	}
	return r.Ret, nil
}

// moved returns how many bytes a call has moved, or an error when that cannot be: the
// number comes from the guest, whose kernel may be the thing under test.
func (a *Actor) moved(op, path string, r *guest.SyscallResult, most int) (int, error) {
	switch {
	case r.Errno != 0:
		return 0, a.errno(op, path, r.Errno)
	case r.Ret < 0 || r.Ret > int64(most):
		return 0, fmt.Errorf("vm `%s`: %s %s: the guest's kernel says that it moved %d of %d bytes", a.vm.Name(), op,
			path, r.Ret, most)
	}
	return int(r.Ret), nil
}

func (f syscallFiles) closeFD(ctx context.Context, op string, fd int64) {
	// An error is one of the worker, which the next call returns, too.
	_, _ = f.by.Syscall(context.WithoutCancel(ctx), op,
		guest.Syscall{Nr: wire.CallClose, Portable: true, Args: [6]int64{fd}})
}

// pieces repeats a call with a buffer of n bytes until it returns none.
func (f syscallFiles) pieces(ctx context.Context, op, path string, nr, fd int64, n int, take func([]byte) error) error {
	for {
		r, err := f.by.Syscall(ctx, op, bufferCall(nr, fd, make([]byte, n)))
		if err != nil {
			return err
		}
		got, err := f.by.moved(op, path, r, n)
		if err != nil || got == 0 {
			return err
		}
		if err := take(r.Bufs[0][:got]); err != nil {
			return err
		}
	}
}

// fstat describes an open file.
func (f syscallFiles) fstat(ctx context.Context, op, path string, fd int64) (*guest.FileInfo, error) {
	r, err := f.by.Syscall(ctx, op, guest.Syscall{Nr: wire.CallStatx, Portable: true,
		Args: [6]int64{fd, 0, unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS},
		Bufs: [][]byte{{0}, make([]byte, statSize)}, Slots: []int{1, 4}})
	if err == nil && r.Errno != 0 {
		err = f.by.errno(op, path, r.Errno)
	}
	if err != nil {
		return nil, err
	}
	return fileInfo(r.Bufs[1]), nil
}

// ReadFile returns the contents of a file of at most 96 MiB.
func (f syscallFiles) ReadFile(ctx context.Context, path string) ([]byte, error) {
	return f.readFile(ctx, path, guest.MaxReadFile)
}

// readFile returns the contents of a file of at most limit bytes.
func (f syscallFiles) readFile(ctx context.Context, path string, limit int) ([]byte, error) {
	fd, err := f.open(ctx, "read_file", path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.closeFD(ctx, "read_file", fd)
	info, err := f.fstat(ctx, "read_file", path, fd)
	if err != nil {
		return nil, err
	}
	tooLarge := func(what string, n int64) error {
		return fmt.Errorf("read_file %s: File too large: %s %d bytes, and read_file takes at most %d; "+
			"use tail_file or open_file", path, what, n, limit)
	}
	if info.Type == guest.TypeFile && info.Size > int64(limit) {
		return nil, tooLarge("file has", info.Size)
	}
	var all []byte
	err = f.pieces(ctx, "read_file", path, wire.CallRead, fd, 256<<10, func(p []byte) error {
		if all = append(all, p...); len(all) > limit {
			return tooLarge("file has more than", int64(limit))
		}
		return nil
	})
	return all, err
}

// WriteFile creates a file or replaces its contents.
func (f syscallFiles) WriteFile(ctx context.Context, path string, data []byte, perm guest.Perm) error {
	return f.write(ctx, "write_file", path, guest.NewDataReader(bytes.NewReader(data), false), perm)
}

// Stat describes a file; without follow a symbolic link itself.
func (f syscallFiles) Stat(ctx context.Context, path string, follow bool) (*guest.FileInfo, error) {
	var flags int64
	if !follow {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	r, err := f.pathCall(ctx, "stat", path, guest.Syscall{Nr: wire.CallStatx,
		Args: [6]int64{2: flags, 3: unix.STATX_BASIC_STATS}, Bufs: [][]byte{make([]byte, statSize)}, Slots: []int{4}})
	if err != nil {
		return nil, err
	}
	return fileInfo(r.Bufs[1]), nil
}

// statSize is the size of struct statx, which is the same on every architecture.
const statSize = 256

// fileInfo decodes a struct statx.
func fileInfo(b []byte) *guest.FileInfo {
	le := binary.LittleEndian
	mode := uint32(le.Uint16(b[28:]))
	ns := func(at int) int64 { return int64(le.Uint64(b[at:]))*1e9 + int64(le.Uint32(b[at+8:])) }
	return &guest.FileInfo{
		Size:    int64(le.Uint64(b[40:])),
		MtimeNS: ns(112),
		Perm:    mode & 0o7777,
		Type:    entryType(mode >> 12),
		FileNumbers: guest.FileNumbers{
			Ino: le.Uint64(b[32:]), Nlink: uint64(le.Uint32(b[16:])), UID: uint64(le.Uint32(b[20:])),
			GID: uint64(le.Uint32(b[24:])), Rdev: unix.Mkdev(le.Uint32(b[128:]), le.Uint32(b[132:])),
			Blocks: le.Uint64(b[48:]), AtimeNS: ns(64), CtimeNS: ns(96),
		},
	}
}

// entryType returns the kind of file of a directory entry. Its numbers are those of a
// mode's upper bits.
func entryType(n uint32) guest.EntryType {
	switch n {
	case unix.DT_REG:
		return guest.TypeFile
	case unix.DT_DIR:
		return guest.TypeDirectory
	case unix.DT_LNK:
		return guest.TypeSymlink
	case unix.DT_FIFO:
		return guest.TypeFIFO
	case unix.DT_SOCK:
		return guest.TypeSocket
	case unix.DT_BLK:
		return guest.TypeBlockDevice
	case unix.DT_CHR:
		return guest.TypeCharDevice
	}
	return guest.TypeOther
}

// ListDir lists a directory.
func (f syscallFiles) ListDir(ctx context.Context, path string) ([]guest.DirEntry, error) {
	fd, err := f.open(ctx, "listdir", path, unix.O_RDONLY|wire.OpenDirectory)
	if err != nil {
		return nil, err
	}
	defer f.closeFD(ctx, "listdir", fd)
	var all []guest.DirEntry
	err = f.pieces(ctx, "listdir", path, wire.CallGetdents64, fd, 64<<10, func(p []byte) error {
		for len(p) > 0 {
			e, rest, err := directoryEntry(p)
			if err != nil {
				return fmt.Errorf("listdir %s: %w", path, err)
			}
			if p = rest; e.Name != "." && e.Name != ".." {
				all = append(all, e)
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b guest.DirEntry) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

var errDirectoryEntry = errors.New("the guest returned a malformed directory entry")

// directoryEntry decodes the first struct linux_dirent64 of b.
func directoryEntry(b []byte) (e guest.DirEntry, rest []byte, err error) {
	const head = 19
	if len(b) < head {
		return e, nil, errDirectoryEntry
	}
	n := int(binary.LittleEndian.Uint16(b[16:]))
	if n < head || n > len(b) {
		return e, nil, errDirectoryEntry
	}
	name, _, ok := bytes.Cut(b[head:n], []byte{0})
	if !ok {
		return e, nil, errDirectoryEntry
	}
	return guest.DirEntry{Name: string(name), Type: entryType(uint32(b[18]))}, b[n:], nil
}

// Mkdir creates a directory. With parents it also creates what is missing above it, and
// accepts an existing directory.
func (f syscallFiles) Mkdir(ctx context.Context, path string, parents bool, perm guest.Perm) error {
	if parents {
		for i := 1; i < len(path); i++ {
			if path[i] == '/' && path[i-1] != '/' && strings.Trim(path[i:], "/") != "" {
				if err := f.makeDir(ctx, path[:i], guest.Perm{}, true); err != nil {
					return err
				}
			}
		}
	}
	return f.makeDir(ctx, path, perm, parents)
}

// makeDir creates one directory, with exactly this mode if one is given. existing says
// whether a directory that exists is accepted.
func (f syscallFiles) makeDir(ctx context.Context, path string, perm guest.Perm, existing bool) error {
	bits, given := perm.Bits()
	if !given {
		bits = 0o755
	}
	args := [6]int64{2: int64(bits)}
	_, err := f.pathCall(ctx, "mkdir", path, guest.Syscall{Nr: wire.CallMkdirat, Args: args})
	var failed *guest.OpError
	switch {
	case err == nil && given:
		_, err = f.pathCall(ctx, "mkdir", path, guest.Syscall{Nr: wire.CallFchmodat, Args: args})
	case existing && errors.As(err, &failed):
		// EEXIST is not the only refusal for an existing directory: the file system
		// may be read-only, or the permission missing.
		info, statErr := f.Stat(ctx, path, true)
		switch {
		case statErr != nil:
		case info.Type == guest.TypeDirectory:
			return nil
		default:
			return f.by.errno("mkdir", path, int(unix.ENOTDIR))
		}
	}
	return err
}

// Unlink removes a file or an empty directory.
func (f syscallFiles) Unlink(ctx context.Context, path string) error {
	call := guest.Syscall{Nr: wire.CallUnlinkat}
	_, err := f.pathCall(ctx, "unlink", path, call)
	var failed *guest.OpError
	if errors.As(err, &failed) && failed.Name == "EISDIR" {
		call.Args[2] = unix.AT_REMOVEDIR
		_, err = f.pathCall(ctx, "unlink", path, call)
	}
	return err
}

// Rename renames within one file system.
func (f syscallFiles) Rename(ctx context.Context, from, to string) error {
	_, err := f.pathCall(ctx, "rename", from, guest.Syscall{Nr: wire.CallRenameat2,
		Args: [6]int64{2: unix.AT_FDCWD}, Bufs: [][]byte{append([]byte(to), 0)}, Slots: []int{3}})
	var failed *guest.OpError
	if errors.As(err, &failed) && failed.Errno != 0 {
		failed.Path = from + " -> " + to
	}
	return err
}

// FileCall carries out an operation that is one system call.
func (f syscallFiles) FileCall(ctx context.Context, call guest.FileCall) ([]byte, error) {
	op, _ := call.Op()
	r, err := f.by.Syscall(ctx, op, call.Call())
	if err != nil {
		return nil, err
	}
	return call.Result(r)
}
