package guest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"provium/internal/wire"
)

// Nested says that the address of byte ChildOffset of one buffer goes into another, at
// Offset; buffers count from 0.
type Nested struct {
	Parent, Child int
	Offset        uint64
	ChildOffset   uint64
}

// FilesExecutor stands for the agent as the executor of a system call on files.
const FilesExecutor = wire.FilesExecutor

// Syscall is a system call to make. Executor 0 is the VM's, FilesExecutor the
// agent, which makes only calls on files, else a worker's handle. Slots[i] is the
// argument that gets the address of Bufs[i], -1 for none; there may be fewer of them
// than buffers.
type Syscall struct {
	Executor uint64
	Life     uint64 // of the executor that is meant, as in an earlier result; 0: any
	Nr       int64
	Args     [6]int64
	Bufs     [][]byte
	Slots    []int
	Nested   []Nested
	// ExactMode has the call made without a umask.
	ExactMode bool
	// Portable says that Nr is one of package wire's Call constants, and not the guest's
	// number.
	Portable bool
}

// SyscallResult is what a call returned: -1 and the errno when it failed. Bufs
// are the buffers as the kernel left them.
type SyscallResult struct {
	Ret   int64
	Errno int
	Life  uint64 // of the executor, another one once it has died
	Bufs  [][]byte
}

func (s *Syscall) request() (*wire.Syscall, transfer) {
	r := &wire.Syscall{Executor: s.Executor, Life: s.Life, Nr: s.Nr, ExactMode: s.ExactMode,
		Portable: s.Portable}
	used := 0
	for i, a := range s.Args {
		if a != 0 {
			used = i + 1
		}
	}
	r.Args = append(r.Args, s.Args[:used]...)
	var all []byte
	for _, b := range s.Bufs {
		r.Lens = append(r.Lens, uint64(len(b)))
		all = append(all, b...)
	}
	for i, slot := range s.Slots {
		if slot >= 0 {
			r.Ptrs = append(r.Ptrs, uint64(slot), uint64(i))
		}
	}
	for _, n := range s.Nested {
		r.Nested = append(r.Nested, uint64(n.Parent), uint64(n.Child), n.Offset)
	}
	if slices.ContainsFunc(s.Nested, func(n Nested) bool { return n.ChildOffset != 0 }) {
		for _, n := range s.Nested {
			r.ChildOffsets = append(r.ChildOffsets, n.ChildOffset)
		}
	}
	t := transfer{limit: int64(len(all))}
	if len(all) <= wire.CallInline {
		r.Data = wire.Bulk{Inline: all}
	} else {
		r.Data = t.send(all)
	}
	return r, t
}

// Lens are the lengths of the call's buffers.
func (s *Syscall) Lens() []int {
	lens := make([]int, len(s.Bufs))
	for i, b := range s.Bufs {
		lens[i] = len(b)
	}
	return lens
}

func syscallResult(op string, a *answer, lens []int) (*SyscallResult, error) {
	v, ok := a.value.(*wire.SyscallValue)
	if !ok {
		return nil, badAnswer(op, a.value)
	}
	r := &SyscallResult{Ret: v.Ret, Errno: int(v.Errno), Life: v.Life, Bufs: make([][]byte, len(lens))}
	data := join(a.in[wire.StreamData], v.Data)
	for i, n := range lens {
		if n > len(data) {
			return nil, fmt.Errorf("%s: %w: %d bytes of buffers are missing", op, wire.ErrMalformed, n-len(data))
		}
		r.Bufs[i], data = data[:n:n], data[n:]
	}
	return r, nil
}

// Syscall makes a system call. It returns no error for a call that fails. A call that
// was given up but has succeeded has a result beside the error: what it made, such as
// a descriptor, can be removed.
func (c *Client) Syscall(ctx context.Context, s *Syscall) (*SyscallResult, error) {
	req, t := s.request()
	if err := req.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", req.Op(), err)
	}
	a, err := c.do(ctx, req, t)
	if err != nil && a != nil {
		if v, ok := a.value.(*wire.SyscallValue); ok && v.Errno == 0 {
			return &SyscallResult{Ret: v.Ret, Life: v.Life}, err
		}
	}
	if err != nil {
		return nil, err
	}
	return syscallResult("syscall", a, s.Lens())
}

// SyscallAsync has a call made on a further thread and returns its handle.
func (c *Client) SyscallAsync(ctx context.Context, s *Syscall) (uint64, error) {
	req, t := s.request()
	if err := req.Check(); err != nil {
		return 0, fmt.Errorf("%s: %w", req.Op(), err)
	}
	req.Async = true
	n, err := c.count(ctx, req, t)
	return uint64(n), err
}

// AwaitSyscall waits for an asynchronous call with buffers of these lengths,
// at most for limit, 0 for ever. It returns the result once.
func (c *Client) AwaitSyscall(ctx context.Context, handle uint64, lens []int, limit time.Duration) (
	*SyscallResult, error) {
	sum := int64(0)
	for _, n := range lens {
		sum += int64(n)
	}
	req := &wire.SyscallAwait{Handle: handle, TimeoutNS: uint64(max(limit, 0))}
	a, err := c.do(ctx, req, transfer{limit: sum, within: limit})
	if err != nil {
		return nil, err
	}
	return syscallResult("syscall_await", a, lens)
}

// DropSyscall interrupts an asynchronous call and forgets it.
func (c *Client) DropSyscall(ctx context.Context, handle uint64) error {
	_, err := c.do(ctx, &wire.SyscallDrop{Handle: handle}, transfer{})
	return err
}

// ReadMem reads an executor's memory. For an address that cannot be read it
// returns an errno.
func (c *Client) ReadMem(ctx context.Context, executor, address uint64, n int) (data []byte, errno int, err error) {
	req := &wire.ReadMem{Executor: executor, Address: address, Length: uint64(n)}
	a, err := c.do(ctx, req, transfer{limit: int64(n)})
	if err != nil {
		return nil, 0, err
	}
	r, err := syscallResult("read_mem", a, []int{n})
	if err != nil || r.Errno != 0 {
		return nil, r.errno(), err
	}
	return r.Bufs[0], 0, nil
}

func (r *SyscallResult) errno() int {
	if r == nil {
		return 0
	}
	return r.Errno
}

// FDTail opens a stream of what can be read from a descriptor of an executor.
func (c *Client) FDTail(ctx context.Context, executor uint64, fd int64) (*Stream, error) {
	return c.openStream(ctx, &wire.FDTail{Executor: executor, FD: fd})
}

// SpawnWorker starts an executor of its own and returns its handle.
func (c *Client) SpawnWorker(ctx context.Context) (uint64, error) {
	n, err := c.count(ctx, &wire.WorkerSpawn{}, transfer{})
	return uint64(n), err
}

// CloseWorker ends a worker.
func (c *Client) CloseWorker(ctx context.Context, handle uint64) error {
	_, err := c.do(ctx, &wire.WorkerClose{Handle: handle}, transfer{})
	return err
}

// SyscallOp makes a system call in a batch; its Result has Syscall. It must
// have no buffers.
type SyscallOp struct{ Syscall }

func (o SyscallOp) request() wire.Request {
	r, _ := o.Syscall.request()
	return r
}

// ErrnoError is the failure of operation op with a Linux errno; path may be "".
func ErrnoError(op, path string, errno int) *OpError {
	e := wire.ErrnoError(uint32(errno))
	return &OpError{Op: op, Path: path, Errno: e.Errno, Name: e.Name, Text: e.Text}
}
