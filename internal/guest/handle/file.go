package handle

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/stream"
	"provium/internal/wire"
)

// FileMode says how to open a File.
type FileMode struct {
	Read, Write, Append         bool
	Create, Truncate, Exclusive bool
	Perm                        uint32 // of a file made by the call
	Exact                       bool   // Perm counts whatever the umask is
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
// worker, which its system calls can use too. It is safe for concurrent use.
type File struct {
	by    *Actor
	path  string
	epoch *Epoch
	life  uint64 // of the executor that has it

	mu sync.Mutex
	fd int64 // 0 once closed
}

var errFileClosed = errors.New("file is closed")

// OpenFile opens a file with the actor's credentials.
func (a *Actor) OpenFile(ctx context.Context, path string, mode FileMode) (*File, error) {
	r, epoch, err := a.syscall(ctx, "open_file", &guest.Syscall{
		Nr: wire.CallOpenat, Portable: true, Args: [6]int64{unix.AT_FDCWD, 0, mode.flags(), int64(mode.Perm)},
		Bufs: [][]byte{append([]byte(path), 0)}, Slots: []int{1}, ExactMode: mode.Create && mode.Exact,
	})
	if err != nil {
		a.closeLate(ctx, "open_file", r)
		return nil, Named(a.vm, "open_file", path, err)
	}
	if r.Errno != 0 {
		return nil, a.errno("open_file", path, r.Errno)
	}
	f := &File{by: a, path: path, epoch: epoch, life: r.Life, fd: r.Ret}
	if f.fd == 0 { // a test has closed the one that was there; 0 stands for a closed file
		if err := f.leaveZero(ctx); err != nil {
			return nil, err
		}
	}
	a.vm.Opened().addFile(f)
	return f, nil
}

// leaveZero moves the file from descriptor 0 to another one.
func (f *File) leaveZero(ctx context.Context) error {
	r, err := f.by.Syscall(ctx, "open_file", guest.Syscall{Life: f.life, Nr: wire.CallFcntl, Portable: true,
		Args: [6]int64{0, unix.F_DUPFD_CLOEXEC, 3}})
	if err != nil {
		return err
	}
	_, err = f.by.Syscall(context.WithoutCancel(ctx), "open_file",
		guest.Syscall{Life: f.life, Nr: wire.CallClose, Portable: true})
	if err == nil && r.Errno != 0 {
		err = f.by.errno("open_file", f.path, r.Errno)
	}
	f.fd = r.Ret
	return err
}

// String returns "file(PATH)", once closed "file(PATH, closed)".
func (f *File) String() string {
	if f.FD() == 0 {
		return fmt.Sprintf("file(%s, closed)", f.path)
	}
	return fmt.Sprintf("file(%s)", f.path)
}

// VM returns the machine that the file is in.
func (f *File) VM() VM { return f.by.vm }

// By returns the actor that has the descriptor.
func (f *File) By() *Actor { return f.by }

// FD returns the descriptor, 0 once closed.
func (f *File) FD() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fd
}

// call makes a system call with the descriptor as its first argument.
func (f *File) call(ctx context.Context, op string, s guest.Syscall) (*guest.SyscallResult, error) {
	fd := f.FD()
	if fd == 0 {
		return nil, errFileClosed
	}
	now, err := f.by.vm.Epoch("file:" + op)
	if err != nil {
		return nil, err
	}
	// Descriptors have no handle: what was open at a snapshot is open in it.
	if !now.has(f.epoch, 0) {
		return nil, goneError("file:"+op, "file", f.by.vm)
	}
	s.Args[0], s.Life = fd, f.life
	r, err := f.by.Syscall(ctx, "file:"+op, s)
	err = Named(f.by.vm, "file:"+op, f.path, err)
	if err == nil && r.Errno != 0 {
		err = f.by.errno(op, f.path, r.Errno)
	}
	return r, err
}

const (
	readAllPiece = 64 << 10 // bytes that ReadAll reads at once
	maxPiece     = 1 << 20  // bytes that one system call reads or writes at most
)

// Read returns up to n bytes, none at the end of the file.
func (f *File) Read(ctx context.Context, n int) ([]byte, error) {
	var all []byte
	for {
		want := min(n-len(all), maxPiece)
		r, err := f.call(ctx, "read", bufferCall(wire.CallRead, 0, make([]byte, want)))
		if err != nil {
			if len(all) > 0 {
				return all, nil
			}
			return nil, err
		}
		got, err := f.by.moved("read", f.path, r, want)
		if err != nil {
			return nil, err
		}
		all = append(all, r.Bufs[0][:got]...)
		if got < want || len(all) == n {
			return all, nil
		}
	}
}

// ReadAll returns the rest of the file.
func (f *File) ReadAll(ctx context.Context) ([]byte, error) {
	var all []byte
	for {
		p, err := f.Read(ctx, readAllPiece)
		if err != nil || len(p) == 0 {
			return all, err
		}
		all = append(all, p...)
	}
}

// Write writes at most 1 MiB and returns the number of bytes written.
func (f *File) Write(ctx context.Context, p []byte) (int, error) {
	p = p[:min(len(p), maxPiece)]
	r, err := f.call(ctx, "write", bufferCall(wire.CallWrite, 0, p))
	if err != nil {
		return 0, err
	}
	return f.by.moved("write", f.path, r, len(p))
}

// Seek moves the cursor and returns its new position; whence is as for lseek. op is
// the name of the call in errors.
func (f *File) Seek(ctx context.Context, op string, offset int64, whence int) (int64, error) {
	r, err := f.call(ctx, op, guest.Syscall{Nr: wire.CallLseek, Portable: true,
		Args: [6]int64{0, offset, int64(whence)}})
	if err != nil {
		return 0, err
	}
	return r.Ret, nil
}

// TailStream opens a stream of what is behind the cursor, now and later.
func (f *File) TailStream(ctx context.Context, site stream.Site) (*stream.Stream, error) {
	fd := f.FD()
	if fd == 0 {
		return nil, errFileClosed
	}
	s, err := f.by.fdStream(ctx, "file:tail_stream", "file_tail_stream", fd, site)
	var failed *guest.OpError
	if errors.As(err, &failed) {
		failed.Path = f.path
	}
	return s, err
}

// Close closes the file. It does nothing in the guest when that is gone. Only the
// first call has an effect.
func (f *File) Close(ctx context.Context) error {
	f.mu.Lock()
	fd := f.fd
	f.mu.Unlock()
	if fd == 0 {
		return nil
	}
	_, err := f.call(ctx, "close", guest.Syscall{Nr: wire.CallClose, Portable: true})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd == 0 {
		return nil
	}
	f.fd = 0
	f.by.vm.Opened().removeFile(f)
	_, gone := f.by.vm.Epoch("file:close")
	var failed *guest.OpError
	if gone != nil || err != nil && (!errors.As(err, &failed) || failed.Errno == 0) {
		return nil
	}
	return err
}
