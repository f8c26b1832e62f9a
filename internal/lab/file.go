package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
)

// FileMode says how to open a File.
type FileMode struct {
	Read, Write, Append         bool
	Create, Truncate, Exclusive bool
	Perm                        uint32 // of a file made by the call
}

func (m FileMode) flags() int64 {
	flags := int64(unix.O_CLOEXEC)
	switch {
	case m.Read && (m.Write || m.Append):
		flags |= unix.O_RDWR
	case m.Write || m.Append:
		flags |= unix.O_WRONLY
	}
	for _, f := range []struct {
		on   bool
		flag int64
	}{{m.Append, unix.O_APPEND}, {m.Create, unix.O_CREAT}, {m.Truncate, unix.O_TRUNC}, {m.Exclusive, unix.O_EXCL}} {
		if f.on {
			flags |= f.flag
		}
	}
	return flags
}

// File is an open file of a guest: a descriptor of the VM's executor, or of a
// worker, where system calls find it too. It is safe for concurrent use.
type File struct {
	by   Caller
	path string
	gen  *generation
	life uint64 // of the executor that has it

	mu sync.Mutex
	fd int64 // 0 once closed
}

var errFileClosed = errors.New("file is closed")

// OpenFile opens a file with the caller's credentials.
func OpenFile(ctx context.Context, by Caller, path string, mode FileMode) (*File, error) {
	f := &File{by: by, path: path}
	vm := by.VM()
	inst, err := vm.serving("open_file")
	if err != nil {
		return nil, err
	}
	f.gen = inst.generation()
	r, err := MakeSyscall(ctx, by, "open_file", Syscall{
		Nr:   unix.SYS_OPENAT,
		Args: [6]int64{unix.AT_FDCWD, 0, mode.flags(), int64(mode.Perm)},
		Bufs: [][]byte{append([]byte(path), 0)}, Slots: []int{1},
	})
	if err != nil {
		return nil, err
	}
	if r.Errno != 0 {
		return nil, guest.ErrnoError("open_file", path, r.Errno)
	}
	f.fd, f.life = r.Ret, r.Life
	if f.fd == 0 { // a test has closed the one that was there; 0 stands for a closed file
		if err := f.leaveZero(ctx); err != nil {
			return nil, err
		}
	}
	vm.mu.Lock()
	vm.files = append(vm.files, f)
	vm.mu.Unlock()
	return f, nil
}

// leaveZero moves the file from descriptor 0 to another one.
func (f *File) leaveZero(ctx context.Context) error {
	r, err := MakeSyscall(ctx, f.by, "open_file", Syscall{Life: f.life, Nr: unix.SYS_FCNTL, Args: [6]int64{0, unix.F_DUPFD_CLOEXEC, 3}})
	if err != nil {
		return err
	}
	_, err = MakeSyscall(context.WithoutCancel(ctx), f.by, "open_file", Syscall{Life: f.life, Nr: unix.SYS_CLOSE})
	if err == nil && r.Errno != 0 {
		err = guest.ErrnoError("open_file", f.path, r.Errno)
	}
	f.fd = r.Ret
	return err
}

// String names the file.
func (f *File) String() string { return fmt.Sprintf("file(%s)", f.path) }

// VM is the machine it is in.
func (f *File) VM() *VM { return f.by.VM() }

// By is whose descriptor it is.
func (f *File) By() Caller { return f.by }

// FD is the descriptor, 0 once closed.
func (f *File) FD() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fd
}

// call makes a system call whose first argument is the descriptor.
func (f *File) call(ctx context.Context, op string, s Syscall) (*SyscallResult, error) {
	fd := f.FD()
	if fd == 0 {
		return nil, errFileClosed
	}
	vm := f.by.VM()
	inst, err := vm.running("file:"+op, Booted)
	if err != nil {
		return nil, err
	}
	// Descriptors carry no handle: what was open at a snapshot is open in it.
	if !inst.generation().holds(f.gen, 0) {
		return nil, fmt.Errorf("file:%s: the file is gone: vm `%s` was reset, booted or restored since", op, vm.name)
	}
	s.Args[0], s.Life = fd, f.life
	r, err := MakeSyscall(ctx, f.by, "file:"+op, s)
	if err == nil && r.Errno != 0 {
		err = guest.ErrnoError(op, f.path, r.Errno)
	}
	return r, err
}

// filePiece is how much one call reads or writes, in bytes.
const filePiece = 64 << 10

// Read reads up to n bytes; none at the end of the file.
func (f *File) Read(ctx context.Context, n int) ([]byte, error) {
	var all []byte
	for {
		want := min(n-len(all), 1<<20)
		r, err := f.call(ctx, "read", Syscall{Nr: unix.SYS_READ, Args: [6]int64{0, 0, int64(want)}, Bufs: [][]byte{make([]byte, want)}, Slots: []int{1}})
		if err != nil {
			if len(all) > 0 {
				return all, nil
			}
			return nil, err
		}
		got, err := moved("read", f.path, r, want)
		if err != nil {
			return nil, err
		}
		all = append(all, r.Bufs[0][:got]...)
		if got < want || len(all) == n {
			return all, nil
		}
	}
}

// ReadAll reads the rest of the file.
func (f *File) ReadAll(ctx context.Context) ([]byte, error) {
	var all []byte
	for {
		p, err := f.Read(ctx, filePiece)
		if err != nil || len(p) == 0 {
			return all, err
		}
		all = append(all, p...)
	}
}

// Write writes at most 1 MiB and returns how much was taken.
func (f *File) Write(ctx context.Context, p []byte) (int, error) {
	p = p[:min(len(p), 1<<20)]
	r, err := f.call(ctx, "write", Syscall{Nr: unix.SYS_WRITE, Args: [6]int64{0, 0, int64(len(p))}, Bufs: [][]byte{p}, Slots: []int{1}})
	if err != nil {
		return 0, err
	}
	return moved("write", f.path, r, len(p))
}

// Seek moves the cursor and returns where it is then; whence is as for lseek.
func (f *File) Seek(ctx context.Context, op string, offset int64, whence int) (int64, error) {
	r, err := f.call(ctx, op, Syscall{Nr: unix.SYS_LSEEK, Args: [6]int64{0, offset, int64(whence)}})
	if err != nil {
		return 0, err
	}
	return r.Ret, nil
}

// TailStream opens a stream of what is behind the cursor and will be.
func (f *File) TailStream(ctx context.Context, site Site) (*Stream, error) {
	fd := f.FD()
	if fd == 0 {
		return nil, errFileClosed
	}
	return FDStream(ctx, f.by, "file_tail_stream", fd, site)
}

// Close closes the file. Repeating it does nothing, and nothing needs to be
// done when the guest is gone.
func (f *File) Close(ctx context.Context) error {
	f.mu.Lock()
	fd := f.fd
	f.mu.Unlock()
	if fd == 0 {
		return nil
	}
	_, err := f.call(ctx, "close", Syscall{Nr: unix.SYS_CLOSE})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd == 0 {
		return nil
	}
	f.fd = 0
	vm := f.by.VM()
	vm.mu.Lock()
	vm.files = slices.DeleteFunc(vm.files, func(x *File) bool { return x == f })
	booted := vm.state == Booted
	vm.mu.Unlock()
	var failed *OpError
	if !booted || err != nil && (!errors.As(err, &failed) || failed.Errno == 0) {
		return nil
	}
	return err
}

// Ioctl makes an ioctl with data behind its third argument, nil for none. The
// address of bufs[i] is stored in data at offsets[i]; there may be fewer of
// those. The result's first buffer is data, if there is any.
func Ioctl(ctx context.Context, by Caller, fd, cmd int64, data []byte, bufs [][]byte, offsets []uint64) (*SyscallResult, error) {
	s := Syscall{Nr: unix.SYS_IOCTL, Args: [6]int64{fd, cmd}, Bufs: bufs}
	if data != nil {
		s.Bufs, s.Slots = append([][]byte{data}, bufs...), []int{2}
		for i, at := range offsets {
			s.Nested = append(s.Nested, Nested{Parent: 0, Child: i + 1, Offset: at})
		}
	}
	return MakeSyscall(ctx, by, "ioctl", s)
}
