package handle

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/stream"
	"provium/internal/wire"
)

// Syscall makes a system call and returns what it returned. A call that fails is not
// an error: the result has the errno. op is the name of the call in errors.
func (a *Actor) Syscall(ctx context.Context, op string, s guest.Syscall) (*guest.SyscallResult, error) {
	r, _, err := a.syscall(ctx, op, &s)
	return r, err
}

// syscall is Syscall. It also returns the epoch in which the call was made.
func (a *Actor) syscall(ctx context.Context, op string, s *guest.Syscall) (
	r *guest.SyscallResult, in *Epoch, err error) {
	err = a.do(ctx, op, func(c *guest.Client, epoch *Epoch) (err error) {
		in = epoch
		s.Executor = a.executor()
		r, err = c.Syscall(ctx, s)
		epoch.recordLife(s, r, err)
		return rename(err, op)
	})
	return r, in, err
}

// errno returns the error of an operation whose system call has failed.
func (a *Actor) errno(op, path string, errno int) error {
	return Named(a.vm, op, path, guest.ErrnoError(op, path, errno))
}

// closeLate closes the file of an open that was given up but has succeeded: it must not
// stay behind as a reader or writer. r is nil when the open has failed.
func (a *Actor) closeLate(ctx context.Context, op string, r *guest.SyscallResult) {
	if r != nil && r.Errno == 0 && r.Ret >= 0 {
		// An error is one of the executor, whose end closes the file, too.
		_, _ = a.Syscall(context.WithoutCancel(ctx), op,
			guest.Syscall{Life: r.Life, Nr: wire.CallClose, Portable: true, Args: [6]int64{r.Ret}})
	}
}

// bufferCall is a system call on a descriptor with a buffer and its length, such as
// read.
func bufferCall(nr, fd int64, p []byte) guest.Syscall {
	return guest.Syscall{Nr: nr, Portable: true, Args: [6]int64{fd, 0, int64(len(p))}, Bufs: [][]byte{p},
		Slots: []int{1}}
}

// Ioctl makes an ioctl with data behind its third argument, nil for none. The address
// of bufs[i] is stored in data at offsets[i]; there may be fewer offsets. The result's
// first buffer is data, if there is any.
func (a *Actor) Ioctl(ctx context.Context, fd, cmd int64, data []byte, bufs [][]byte, offsets []uint64) (
	*guest.SyscallResult, error) {
	s := guest.Syscall{Nr: wire.CallIoctl, Portable: true, Args: [6]int64{fd, cmd}, Bufs: bufs}
	if data != nil {
		s.Bufs, s.Slots = append([][]byte{data}, bufs...), []int{2}
		for i, at := range offsets {
			s.Nested = append(s.Nested, guest.Nested{Parent: 0, Child: i + 1, Offset: at})
		}
	}
	return a.Syscall(ctx, "ioctl", s)
}

// ReadMem returns bytes of the memory of the actor's executor, or an errno.
func (a *Actor) ReadMem(ctx context.Context, address uint64, n int) (data []byte, errno int, err error) {
	err = a.do(ctx, "read_mem", func(c *guest.Client, _ *Epoch) (err error) {
		data, errno, err = c.ReadMem(ctx, a.executor(), address, n)
		return err
	})
	return data, errno, err
}

// WriteMem stores bytes in the memory of the actor's executor, as any program could do
// that stores them at address, or returns an errno. What is before a page that cannot be
// written may be stored then.
func (a *Actor) WriteMem(ctx context.Context, address uint64, data []byte) (errno int, err error) {
	own, err := a.Syscall(ctx, "write_mem", guest.Syscall{Nr: wire.CallGetpid, Portable: true})
	if err != nil {
		return 0, err
	}
	// The bytes go along in buffers of the call, from where the executor copies them.
	pieces := slices.Collect(slices.Chunk(data, maxPiece))
	from, to := make([]byte, 16*len(pieces)), make([]byte, 16) // arrays of struct iovec
	s := guest.Syscall{Life: own.Life, Nr: wire.CallProcessVMWritev, Portable: true,
		Args: [6]int64{own.Ret, 0, int64(len(pieces)), 0, 1}, Bufs: append([][]byte{from, to}, pieces...),
		Slots: []int{1, 3}}
	for i, p := range pieces {
		s.Nested = append(s.Nested, guest.Nested{Parent: 0, Child: 2 + i, Offset: uint64(16 * i)})
		binary.LittleEndian.PutUint64(from[16*i+8:], uint64(len(p)))
	}
	binary.LittleEndian.PutUint64(to, address)
	binary.LittleEndian.PutUint64(to[8:], uint64(len(data)))
	r, err := a.Syscall(ctx, "write_mem", s)
	switch {
	case err != nil:
		return 0, err
	case r.Errno == 0 && r.Ret < int64(len(data)):
		return int(unix.EFAULT), nil
	}
	return r.Errno, nil
}

// FDStream opens a stream of what can be read from a descriptor of the actor.
func (a *Actor) FDStream(ctx context.Context, fd int64, site stream.Site) (*stream.Stream, error) {
	return a.fdStream(ctx, "fd_stream", "fd_stream", fd, site)
}

func (a *Actor) fdStream(ctx context.Context, op, kind string, fd int64, site stream.Site) (*stream.Stream, error) {
	s, err := a.openStream(ctx, op, kind, fmt.Sprint(fd), site, func(c *guest.Client) (*guest.Stream, error) {
		return c.FDTail(ctx, a.executor(), fd)
	})
	var failed *guest.OpError
	if errors.As(err, &failed) && failed.Errno == uint32(unix.EBADF) {
		failed.Text = fmt.Sprintf("unknown fd `%d`: %s", fd, failed.Text)
	}
	return s, err
}
