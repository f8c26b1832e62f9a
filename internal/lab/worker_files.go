package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
)

// The file operations of a worker are made of its own system calls, so that its
// credentials and namespaces decide.

// pathCall makes a call whose argument 0 is a path, and fails as operation op
// when it does.
func (w *Worker) pathCall(ctx context.Context, op, path string, s Syscall) (*SyscallResult, error) {
	s.Bufs = append([][]byte{append([]byte(path), 0)}, s.Bufs...)
	s.Slots = append([]int{0}, s.Slots...)
	r, err := MakeSyscall(ctx, w, op, s)
	if err == nil && r.Errno != 0 {
		err = guest.ErrnoError(op, path, r.Errno)
	}
	return r, err
}

// open opens a file for one operation.
func (w *Worker) open(ctx context.Context, op, path string, flags int64) (fd int64, err error) {
	r, err := w.pathCall(ctx, op, path, Syscall{Nr: unix.SYS_OPEN, Args: [6]int64{0, flags | unix.O_CLOEXEC | unix.O_NOCTTY, 0o644}})
	if err != nil {
		return 0, err
	}
	return r.Ret, nil
}

func (w *Worker) closeFD(ctx context.Context, op string, fd int64) {
	// An error here is one of the worker, which the next call tells of.
	_, _ = MakeSyscall(context.WithoutCancel(ctx), w, op, Syscall{Nr: unix.SYS_CLOSE, Args: [6]int64{fd}})
}

// maxReadFile is the largest file that is read into memory, in bytes.
const maxReadFile = guest.MaxReadFile

// pieces calls with a buffer of n bytes until the call gives none.
func (w *Worker) pieces(ctx context.Context, op, path string, nr, fd int64, n int, take func([]byte) error) error {
	for {
		r, err := MakeSyscall(ctx, w, op, Syscall{Nr: nr, Args: [6]int64{fd, 0, int64(n)}, Bufs: [][]byte{make([]byte, n)}, Slots: []int{1}})
		switch {
		case err != nil:
			return err
		case r.Errno != 0:
			return guest.ErrnoError(op, path, r.Errno)
		case r.Ret == 0:
			return nil
		}
		if err := take(r.Bufs[0][:r.Ret]); err != nil {
			return err
		}
	}
}

// ReadFile returns the contents of a file of at most 96 MiB.
func (w *Worker) ReadFile(ctx context.Context, path string) ([]byte, error) {
	fd, err := w.open(ctx, "read_file", path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer w.closeFD(ctx, "read_file", fd)
	var all []byte
	err = w.pieces(ctx, "read_file", path, unix.SYS_READ, fd, 256<<10, func(p []byte) error {
		if all = append(all, p...); len(all) > maxReadFile {
			return fmt.Errorf("read_file %s: the file has more than %d bytes; use tail_file or open_file", path, maxReadFile)
		}
		return nil
	})
	return all, err
}

// WriteFile creates a file or replaces its contents.
func (w *Worker) WriteFile(ctx context.Context, path string, data []byte) error {
	fd, err := w.open(ctx, "write_file", path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return err
	}
	defer w.closeFD(ctx, "write_file", fd)
	for len(data) > 0 {
		p := data[:min(len(data), 1<<20)]
		r, err := MakeSyscall(ctx, w, "write_file", Syscall{Nr: unix.SYS_WRITE, Args: [6]int64{fd, 0, int64(len(p))}, Bufs: [][]byte{p}, Slots: []int{1}})
		switch {
		case err != nil:
			return err
		case r.Errno != 0:
			return guest.ErrnoError("write_file", path, r.Errno)
		}
		data = data[r.Ret:]
	}
	return nil
}

// Stat describes a file; without follow a symbolic link itself.
func (w *Worker) Stat(ctx context.Context, path string, follow bool) (*FileInfo, error) {
	nr := int64(unix.SYS_STAT)
	if !follow {
		nr = unix.SYS_LSTAT
	}
	r, err := w.pathCall(ctx, "stat", path, Syscall{Nr: nr, Bufs: [][]byte{make([]byte, 144)}, Slots: []int{1}})
	if err != nil {
		return nil, err
	}
	// struct stat of x86-64
	le, b := binary.LittleEndian, r.Bufs[1]
	mode := le.Uint32(b[24:])
	return &FileInfo{
		Size:    int64(le.Uint64(b[48:])),
		MtimeNS: int64(le.Uint64(b[88:]))*1e9 + int64(le.Uint64(b[96:])),
		Perm:    mode & 0o7777,
		Type:    entryType(mode >> 12),
	}, nil
}

// entryType is the kind of file of a directory entry, whose numbers are those
// of a mode's upper bits.
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
func (w *Worker) ListDir(ctx context.Context, path string) ([]DirEntry, error) {
	fd, err := w.open(ctx, "listdir", path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer w.closeFD(ctx, "listdir", fd)
	all := []DirEntry{}
	err = w.pieces(ctx, "listdir", path, unix.SYS_GETDENTS64, fd, 64<<10, func(p []byte) error {
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
	return all, err
}

var errDirectoryEntry = errors.New("the guest gave a directory entry that is none")

// directoryEntry decodes the first struct linux_dirent64 of b.
func directoryEntry(b []byte) (e DirEntry, rest []byte, err error) {
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
	return DirEntry{Name: string(name), Type: entryType(uint32(b[18]))}, b[n:], nil
}

// Mkdir makes a directory; with parents also what is missing above it, and an
// existing one is no error then.
func (w *Worker) Mkdir(ctx context.Context, path string, parents bool, perm *uint32) error {
	mode := int64(0o755)
	if perm != nil {
		mode = int64(*perm)
	}
	make := func(dir string, mode int64) error {
		_, err := w.pathCall(ctx, "mkdir", dir, Syscall{Nr: unix.SYS_MKDIR, Args: [6]int64{0, mode}})
		var failed *OpError
		if parents && errors.As(err, &failed) && failed.Name == "EEXIST" {
			info, statErr := w.Stat(ctx, dir, true)
			if statErr == nil && info.Type == guest.TypeDirectory {
				return nil
			}
		}
		return err
	}
	if parents {
		for i := 1; i < len(path); i++ {
			if path[i] == '/' && path[i-1] != '/' && strings.Trim(path[i:], "/") != "" {
				if err := make(path[:i], 0o755); err != nil {
					return err
				}
			}
		}
	}
	if err := make(path, mode); err != nil || perm == nil {
		return err
	}
	_, err := w.pathCall(ctx, "mkdir", path, Syscall{Nr: unix.SYS_CHMOD, Args: [6]int64{0, mode}})
	return err
}

// Unlink removes a file or an empty directory.
func (w *Worker) Unlink(ctx context.Context, path string) error {
	_, err := w.pathCall(ctx, "unlink", path, Syscall{Nr: unix.SYS_UNLINK})
	var failed *OpError
	if errors.As(err, &failed) && failed.Name == "EISDIR" {
		_, err = w.pathCall(ctx, "unlink", path, Syscall{Nr: unix.SYS_RMDIR})
	}
	return err
}

// Rename renames within one file system.
func (w *Worker) Rename(ctx context.Context, from, to string) error {
	_, err := w.pathCall(ctx, "rename", from, Syscall{Nr: unix.SYS_RENAME, Bufs: [][]byte{append([]byte(to), 0)}, Slots: []int{1}})
	return err
}
