package fakemachine

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/localvmm"
	"provium/internal/wire"
)

// Syscall is a system call that a test has scripted. A SyscallFunc may change Bufs.
type Syscall struct {
	Executor uint64
	Nr       int64
	Args     [6]int64
	Bufs     [][]byte
}

// SyscallFunc carries out a system call and returns what it returns; errno 0 is a
// success. ctx ends when the call is interrupted.
type SyscallFunc func(ctx context.Context, s *Syscall) (ret int64, errno uint32)

// OnSyscall scripts a system call by its number.
func (m *Machine) OnSyscall(nr int64, do SyscallFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.syscalls[nr] = do
}

// executor makes the system calls of the VM (handle 0) or of a worker. What is
// exported is in snapshots.
type executor struct {
	mu    sync.Mutex
	Life  uint64
	Open  map[int64]*openFile
	Limit int64 // highest descriptor that was given
}

type openFile struct {
	Path  string
	At    int64
	Flags int64
}

func newExecutor(life uint64) *executor {
	return &executor{Life: life, Open: map[int64]*openFile{}, Limit: 2}
}

func (e *executor) copy() *executor {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := newExecutor(e.Life)
	out.Limit = e.Limit
	for fd, f := range e.Open {
		copied := *f
		out.Open[fd] = &copied
	}
	return out
}

// call is an asynchronous system call.
type call struct {
	cancel context.CancelFunc
	done   chan struct{}
	value  *wire.SyscallValue
}

// KillExecutor ends an executor, as a lethal system call does: its descriptors are
// gone, and the next call finds another one.
func (m *Machine) KillExecutor(handle uint64) {
	s := m.state()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Executors[handle] != nil {
		s.LastLife++
		s.Executors[handle] = newExecutor(s.LastLife)
	}
}

func (m *Machine) syscallOp(ctx context.Context, op *localvmm.Op, r wire.Request) (v wire.Value, failure *wire.Error,
	known bool) {
	s := m.state()
	switch r := r.(type) {
	case *wire.WorkerSpawn:
		s.mu.Lock()
		defer s.mu.Unlock()
		handle := s.next()
		s.LastLife++
		s.Executors[handle] = newExecutor(s.LastLife)
		return wire.CountValue(handle), nil, true
	case *wire.WorkerClose:
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.Executors, r.Handle)
		return nil, nil, true
	case *wire.Syscall:
		v, failure = m.syscall(ctx, op, s, r)
		return v, failure, true
	case *wire.SyscallAwait:
		v, failure = s.await(ctx, r.Handle)
		return v, failure, true
	case *wire.SyscallDrop:
		s.drop(r.Handle)
		return nil, nil, true
	case *wire.ReadMem:
		return &wire.SyscallValue{Ret: int64(r.Length), Data: make([]byte, r.Length)}, nil, true
	case *wire.FDTail:
		v, failure = m.fdTail(ctx, op, s, r)
		return v, failure, true
	}
	return nil, nil, false
}

func (s *state) executor(handle uint64) *executor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Executors[handle]
}

func (m *Machine) syscall(ctx context.Context, op *localvmm.Op, s *state, r *wire.Syscall) (wire.Value, *wire.Error) {
	data, err := op.Bulk(r.Data)
	if err != nil {
		return nil, Errno(wireECANCELED)
	}
	by, short := r.Executor, 0
	if by == wire.FilesExecutor {
		by = 0
		for _, n := range r.Lens {
			short += int(n)
		}
		short -= len(data) // what the call answers with
		data = append(data, make([]byte, max(short, 0))...)
	}
	e := s.executor(by)
	switch {
	case e == nil:
		return nil, &wire.Error{Text: "the worker has ended"}
	case r.Life != 0 && r.Life != e.Life:
		return nil, &wire.Error{Text: "the executor has died since"}
	}
	c := &Syscall{Executor: r.Executor, Nr: r.Nr}
	copy(c.Args[:], r.Args)
	for _, n := range r.Lens {
		n = min(n, uint64(len(data)))
		c.Bufs = append(c.Bufs, data[:n:n])
		data = data[n:]
	}
	carryOut := func(ctx context.Context) *wire.SyscallValue {
		ret, errno := m.carryOut(ctx, e, c)
		if errno != 0 {
			ret = -1
		}
		out := &wire.SyscallValue{Ret: ret, Errno: errno, Life: e.Life}
		switch {
		case r.Executor != wire.FilesExecutor:
			out.Data = bytes.Join(c.Bufs, nil)
		case short > 0:
			last := c.Bufs[len(c.Bufs)-1]
			out.Data = last[:min(max(ret, 0), int64(len(last)))]
		}
		return out
	}
	if !r.Async {
		return carryOut(ctx), nil
	}
	later := &call{done: make(chan struct{})}
	own, cancel := context.WithCancel(context.Background())
	later.cancel = cancel
	s.mu.Lock()
	handle := s.next()
	s.calls[handle] = later
	s.mu.Unlock()
	go func() {
		defer close(later.done)
		later.value = carryOut(own)
	}()
	return wire.CountValue(handle), nil
}

func (s *state) await(ctx context.Context, handle uint64) (wire.Value, *wire.Error) {
	s.mu.Lock()
	c := s.calls[handle]
	s.mu.Unlock()
	if c == nil {
		return nil, &wire.Error{Text: "no such call"}
	}
	select {
	case <-c.done:
		s.mu.Lock()
		delete(s.calls, handle)
		s.mu.Unlock()
		return c.value, nil
	case <-ctx.Done():
		return nil, Errno(wireECANCELED)
	}
}

func (s *state) drop(handle uint64) {
	s.mu.Lock()
	c := s.calls[handle]
	delete(s.calls, handle)
	s.mu.Unlock()
	if c != nil {
		c.cancel()
		<-c.done
	}
}

// fdTail streams what is behind a descriptor's position, until it is cancelled.
func (m *Machine) fdTail(ctx context.Context, op *localvmm.Op, s *state, r *wire.FDTail) (wire.Value, *wire.Error) {
	e := s.executor(r.Executor)
	if e == nil {
		return nil, &wire.Error{Text: "the worker has ended"}
	}
	e.mu.Lock()
	f := e.Open[r.FD]
	e.mu.Unlock()
	if f == nil {
		return nil, Errno(uint32(unix.EBADF))
	}
	return nil, m.tail(ctx, op, &wire.TailFile{Path: f.Path, Start: f.At})
}

// carryOut carries out a system call: as the test has scripted it, or one of those
// on files.
func (m *Machine) carryOut(ctx context.Context, e *executor, s *Syscall) (ret int64, errno uint32) {
	m.mu.Lock()
	scripted := m.syscalls[s.Nr]
	m.mu.Unlock()
	if scripted != nil {
		return scripted(ctx, s)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch s.Nr {
	case unix.SYS_GETPID:
		return int64(firstPID/2) + int64(s.Executor), 0
	case unix.SYS_OPENAT:
		return m.openat(e, s)
	}
	f := e.Open[s.Args[0]]
	if f == nil {
		switch s.Nr {
		case unix.SYS_CLOSE, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_LSEEK,
			unix.SYS_FTRUNCATE, unix.SYS_FSYNC:
			return -1, uint32(unix.EBADF)
		}
		return -1, uint32(unix.ENOSYS)
	}
	switch s.Nr {
	case unix.SYS_CLOSE:
		delete(e.Open, s.Args[0])
		return 0, 0
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		return 0, 0
	case unix.SYS_READ:
		n, errno := m.Files.readAt(f.Path, s, f.At)
		f.At += max(n, 0)
		return n, errno
	case unix.SYS_PREAD64:
		return m.Files.readAt(f.Path, s, s.Args[3])
	case unix.SYS_WRITE:
		if f.Flags&unix.O_APPEND != 0 {
			_, f.At, _, _ = m.Files.from(f.Path, 0)
		}
		n, errno := m.Files.writeAt(f.Path, s, f.At)
		f.At += max(n, 0)
		return n, errno
	case unix.SYS_PWRITE64:
		return m.Files.writeAt(f.Path, s, s.Args[3])
	case unix.SYS_LSEEK:
		_, size, _, _ := m.Files.from(f.Path, 0)
		at := s.Args[1] + [...]int64{0, f.At, size}[s.Args[2]%3]
		if at < 0 {
			return -1, uint32(unix.EINVAL)
		}
		f.At = at
		return at, 0
	case unix.SYS_FTRUNCATE:
		return m.Files.truncate(f.Path, s.Args[1])
	}
	return -1, uint32(unix.ENOSYS)
}

// openat opens a file; paths are absolute. The caller must hold e.mu.
func (m *Machine) openat(e *executor, s *Syscall) (int64, uint32) {
	if len(s.Bufs) == 0 {
		return -1, uint32(unix.EFAULT)
	}
	name := string(bytes.TrimRight(s.Bufs[0], "\x00"))
	flags := s.Args[2]
	_, failure := m.Files.Read(name)
	switch {
	case failure == nil && flags&unix.O_CREAT != 0 && flags&unix.O_EXCL != 0:
		return -1, uint32(unix.EEXIST)
	case failure == nil && flags&unix.O_TRUNC != 0:
		failure = m.Files.Write(name, nil)
	case failure != nil && failure.Errno == uint32(unix.ENOENT) && flags&unix.O_CREAT != 0:
		failure = m.Files.write(name, nil, true, uint32(s.Args[3])&0o7777, false)
	}
	if failure != nil {
		return -1, failure.Errno
	}
	fd := int64(3)
	for used := slices.Sorted(maps.Keys(e.Open)); slices.Contains(used, fd); fd++ {
	}
	e.Limit = max(e.Limit, fd)
	e.Open[fd] = &openFile{Path: name, Flags: flags}
	return fd, 0
}

func (f *Files) readAt(name string, s *Syscall, at int64) (int64, uint32) {
	p, _, _, failure := f.from(name, at)
	switch {
	case failure != nil:
		return -1, failure.Errno
	case len(s.Bufs) == 0:
		return -1, uint32(unix.EFAULT)
	}
	return int64(copy(s.Bufs[0], p)), 0
}

func (f *Files) writeAt(name string, s *Syscall, at int64) (n int64, errno uint32) {
	if len(s.Bufs) == 0 {
		return -1, uint32(unix.EFAULT)
	}
	f.update(func() {
		file, _, failure := f.find(name, true)
		if failure != nil {
			n, errno = -1, failure.Errno
			return
		}
		end := at + int64(len(s.Bufs[0]))
		if grow := end - int64(len(file.Data)); grow > 0 {
			file.Data = append(file.Data, make([]byte, grow)...)
		}
		n = int64(copy(file.Data[at:], s.Bufs[0]))
	})
	return n, errno
}

func (f *Files) truncate(name string, size int64) (ret int64, errno uint32) {
	f.update(func() {
		file, _, failure := f.find(name, true)
		switch {
		case failure != nil:
			ret, errno = -1, failure.Errno
		case size < 0:
			ret, errno = -1, uint32(unix.EINVAL)
		case size <= int64(len(file.Data)):
			file.Data = file.Data[:size]
		default:
			file.Data = append(file.Data, make([]byte, size-int64(len(file.Data)))...)
		}
	})
	return ret, errno
}
