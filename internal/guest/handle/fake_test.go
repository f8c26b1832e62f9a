package handle

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/localvmm"
	"provium/internal/stream"
	"provium/internal/wire"
)

// fakeVM is a VM whose guest is a fake agent in this process, behind a link that
// speaks the real protocol.
type fakeVM struct {
	t      *testing.T
	opened Opened
	guest  *fakeGuest

	mu     sync.Mutex
	client *guest.Client
	epoch  *Epoch
	dead   error    // why no guest is running
	ops    []string // begun and not ended
	begun  []string // all operations that were begun
}

func newVM(t *testing.T) (*fakeVM, *Actor) {
	t.Helper()
	vm := &fakeVM{t: t, guest: newGuest(t)}
	vm.start(&Epoch{})
	a := NewActor(vm)
	t.Cleanup(func() {
		if len(vm.ops) > 0 {
			t.Errorf("operations that were not ended: %v", vm.ops)
		}
	})
	return vm, &a
}

// start connects to the agent of another epoch.
func (v *fakeVM) start(epoch *Epoch) {
	v.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		v.t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "link")
		if ends[i], err = net.FileConn(f); err != nil {
			v.t.Fatal(err)
		}
		f.Close()
	}
	agent := localvmm.Agent{Do: v.guest.do}
	var serving sync.WaitGroup
	serving.Go(func() { agent.Serve(context.Background(), ends[1]) })
	client, err := guest.Connect(v.t.Context(), ends[0], guest.Config{})
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() {
		client.Close()
		serving.Wait()
		ends[1].Close()
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	v.client, v.epoch, v.dead = client, epoch, nil
}

// reset ends the guest's epoch, as the reset button does.
func (v *fakeVM) reset() { v.start(&Epoch{}) }

var errPanicked = errors.New("vm `a` is dead: guest panicked")

// die ends the guest.
func (v *fakeVM) die() {
	v.mu.Lock()
	v.dead = errPanicked
	client := v.client
	v.mu.Unlock()
	client.Fail(errPanicked)
}

func (v *fakeVM) Name() string    { return "a" }
func (v *fakeVM) Opened() *Opened { return &v.opened }

func (v *fakeVM) BeginOp(_ context.Context, op string) (*guest.Client, *Epoch, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.dead != nil {
		return nil, nil, v.dead
	}
	v.ops, v.begun = append(v.ops, op), append(v.begun, op)
	return v.client, v.epoch, nil
}

func (v *fakeVM) EndOp(op string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := slices.Index(v.ops, op)
	if i < 0 {
		v.t.Errorf("%s was not begun", op)
		return
	}
	v.ops = slices.Delete(v.ops, i, i+1)
}

func (v *fakeVM) Epoch(string) (*Epoch, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.epoch, v.dead
}

// opsOf returns the operations that do begins.
func (v *fakeVM) opsOf(do func()) string {
	v.mu.Lock()
	v.begun = nil
	v.mu.Unlock()
	do()
	v.mu.Lock()
	defer v.mu.Unlock()
	return strings.Join(v.begun, " ")
}

// fakeGuest is what the fake agent holds. Its files are those below dir, and its system
// calls those of this process, with paths below dir.
type fakeGuest struct {
	t   *testing.T
	dir string

	mu        sync.Mutex
	last      uint64 // handle
	lives     map[uint64]uint64
	processes map[uint64]*fakeProcess
	calls     map[uint64]chan struct{} // closed when the call returns
	refuse    map[string]*wire.Error   // by operation
	syscalls  map[int64]func(s *wire.Syscall, bufs [][]byte) (ret int64, errno uint32)
	requests  []wire.Request
}

// fakeProcess is a command. "exit N" ends at once with that code, "killed" by a signal,
// and everything else runs until it is signalled.
type fakeProcess struct {
	worker uint64
	end    chan struct{}
	code   uint32
	status wire.RunStatus
	stdin  []byte
	closed bool // stdin
}

func newGuest(t *testing.T) *fakeGuest {
	g := &fakeGuest{t: t, dir: t.TempDir(), lives: map[uint64]uint64{0: 1}, processes: map[uint64]*fakeProcess{},
		calls:  map[uint64]chan struct{}{},
		refuse: map[string]*wire.Error{}, syscalls: map[int64]func(*wire.Syscall, [][]byte) (int64, uint32){}}
	return g
}

func (g *fakeGuest) path(name string) string { return filepath.Join(g.dir, name) }

// onSyscall scripts a system call; nil makes the real one again.
func (g *fakeGuest) onSyscall(nr int64, do func(s *wire.Syscall, bufs [][]byte) (ret int64, errno uint32)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.syscalls[nr] = do
}

// onOp has an operation fail; nil has it work again.
func (g *fakeGuest) onOp(op string, failure *wire.Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse[op] = failure
}

// kill ends an executor, as a lethal system call does.
func (g *fakeGuest) kill(executor uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lives[executor]++
}

// sawRequests returns the requests since the last call.
func (g *fakeGuest) sawRequests() []wire.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.requests
	g.requests = nil
	return r
}

// finish has an asynchronous call return.
func (g *fakeGuest) finish(handle uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.calls[handle])
}

func (g *fakeGuest) next() uint64 {
	g.last++
	return g.last
}

func (g *fakeGuest) process(handle uint64) *fakeProcess {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.processes[handle]
}

var errNoSuch = &wire.Error{Text: "no such object of the agent"}

func (g *fakeGuest) do(ctx context.Context, op *localvmm.Op) (wire.Value, *wire.Error) {
	g.mu.Lock()
	g.requests = append(g.requests, op.Request)
	failure := g.refuse[op.Request.Op()]
	g.mu.Unlock()
	if failure != nil {
		return nil, failure
	}
	switch r := op.Request.(type) {
	case *wire.Run:
		return &wire.RunValue{Stdout: []byte("agent: " + r.Shell)}, nil
	case *wire.ProcStart:
		return g.start(r)
	case *wire.WorkerSpawn:
		g.mu.Lock()
		defer g.mu.Unlock()
		handle := g.next()
		g.lives[handle] = 100 * handle
		return wire.CountValue(handle), nil
	case *wire.WorkerClose:
		return nil, nil
	case *wire.TailFile, *wire.FDTail:
		if err := op.Send(wire.StreamData, []byte("tail ")); err != nil {
			return nil, wire.ErrnoError(uint32(unix.ECANCELED))
		}
		<-ctx.Done()
		return nil, wire.ErrnoError(uint32(unix.ECANCELED))
	case *wire.Syscall:
		return g.syscall(op, r)
	case *wire.SyscallAwait:
		return g.await(ctx, r)
	case *wire.SyscallDrop:
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.calls, r.Handle)
		return nil, nil
	case *wire.ReadMem:
		if r.Address == 0 {
			return &wire.SyscallValue{Ret: -1, Errno: uint32(unix.EFAULT), Data: make([]byte, r.Length)}, nil
		}
		return &wire.SyscallValue{Data: []byte(strings.Repeat("m", int(r.Length)))}, nil
	}
	if v, failure, known := g.processOp(ctx, op); known {
		return v, failure
	}
	return g.fileOp(op)
}

func (g *fakeGuest) start(r *wire.ProcStart) (wire.Value, *wire.Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := &fakeProcess{worker: r.Worker, end: make(chan struct{})}
	handle := g.next()
	g.processes[handle] = p
	if code, ok := strings.CutPrefix(r.Shell, "exit "); ok {
		p.code = uint32(code[0] - '0')
		close(p.end)
	} else if r.Shell == "killed" {
		p.status, p.code = wire.Signalled, 9
		close(p.end)
	}
	return &wire.ProcValue{Handle: handle, PID: uint32(1000 + handle)}, nil
}

func (g *fakeGuest) processOp(ctx context.Context, op *localvmm.Op) (v wire.Value, failure *wire.Error, known bool) {
	on := func(handle uint64, do func(*fakeProcess) (wire.Value, *wire.Error)) (wire.Value, *wire.Error, bool) {
		p := g.process(handle)
		if p == nil {
			return nil, errNoSuch, true
		}
		v, failure := do(p)
		return v, failure, true
	}
	switch r := op.Request.(type) {
	case *wire.ProcWait:
		return on(r.Handle, func(p *fakeProcess) (wire.Value, *wire.Error) {
			var limit <-chan time.Time
			if r.TimeoutNS > 0 {
				limit = time.After(time.Duration(r.TimeoutNS))
			}
			select {
			case <-p.end:
			case <-limit:
				return &wire.RunValue{Status: wire.TimedOut}, nil
			case <-ctx.Done():
				return nil, wire.ErrnoError(uint32(unix.ECANCELED))
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			delete(g.processes, r.Handle)
			return &wire.RunValue{Status: p.status, Code: p.code, Stdout: p.stdin}, nil
		})
	case *wire.ProcSignal:
		return on(r.Handle, func(p *fakeProcess) (wire.Value, *wire.Error) {
			if p.ended() {
				return nil, wire.ErrnoError(uint32(unix.ESRCH))
			}
			p.status, p.code = wire.Signalled, r.Signal
			close(p.end)
			return nil, nil
		})
	case *wire.ProcStatus:
		return on(r.Handle, func(p *fakeProcess) (wire.Value, *wire.Error) {
			return &wire.ProcValue{Handle: r.Handle, PID: uint32(1000 + r.Handle), Ended: p.ended(), Status: p.status},
				nil
		})
	case *wire.ProcWrite:
		return on(r.Handle, func(p *fakeProcess) (wire.Value, *wire.Error) {
			data, err := op.Bulk(r.Data)
			if err != nil || p.closed {
				return nil, wire.ErrnoError(uint32(unix.EPIPE))
			}
			p.stdin = append(p.stdin, data...)
			return wire.CountValue(len(data)), nil
		})
	case *wire.ProcCloseStdin:
		return on(r.Handle, func(p *fakeProcess) (wire.Value, *wire.Error) {
			p.closed = true
			return nil, nil
		})
	case *wire.ProcOutput:
		return on(r.Handle, func(p *fakeProcess) (wire.Value, *wire.Error) {
			text := "stdout"
			if r.Stderr {
				text = "stderr"
			}
			if op.Send(wire.StreamData, []byte(text)) != nil {
				return nil, wire.ErrnoError(uint32(unix.ECANCELED))
			}
			return nil, nil
		})
	case *wire.ProcClose:
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.processes, r.Handle)
		return nil, nil, true
	}
	return nil, nil, false
}

func (p *fakeProcess) ended() bool {
	select {
	case <-p.end:
		return true
	default:
		return false
	}
}

// fileOp carries out an operation on a whole file, as the real agent does.
func (g *fakeGuest) fileOp(op *localvmm.Op) (wire.Value, *wire.Error) {
	failed := func(err error) *wire.Error {
		var errno unix.Errno
		if err != nil && errors.As(err, &errno) {
			return wire.ErrnoError(uint32(errno))
		}
		return nil
	}
	switch r := op.Request.(type) {
	case *wire.ReadFile:
		info, err := os.Stat(g.path(r.Path))
		if err != nil {
			return nil, failed(err)
		}
		data, err := os.ReadFile(g.path(r.Path))
		if err != nil {
			return nil, failed(err)
		}
		if r.Pieces {
			data = encodePieces(data)
		}
		return &wire.FileValue{Data: data, Perm: permBits(info.Mode())}, nil
	case *wire.WriteFile:
		data, err := op.Bulk(r.Data)
		if err != nil {
			return nil, wire.ErrnoError(uint32(unix.ECANCELED))
		}
		if r.Pieces {
			return nil, failed(g.writePieces(r, data))
		}
		if err := os.WriteFile(g.path(r.Path), data, 0o644); err != nil || !r.SetPerm {
			return nil, failed(err)
		}
		return nil, failed(unix.Chmod(g.path(r.Path), r.Perm))
	case *wire.Stat:
		var st unix.Stat_t
		stat := unix.Stat
		if r.NoFollow {
			stat = unix.Lstat
		}
		if err := stat(g.path(r.Path), &st); err != nil {
			return nil, failed(err)
		}
		return &wire.StatValue{Size: uint64(st.Size), MtimeNS: st.Mtim.Nano(), Perm: st.Mode & 0o7777,
			Type: entryType(st.Mode >> 12), FileNumbers: wire.FileNumbers{Ino: st.Ino, Nlink: st.Nlink,
				UID: uint64(st.Uid), GID: uint64(st.Gid), Rdev: st.Rdev, Blocks: uint64(st.Blocks),
				AtimeNS: st.Atim.Nano(), CtimeNS: st.Ctim.Nano()}}, nil
	case *wire.ListDir:
		entries, err := os.ReadDir(g.path(r.Path))
		out := wire.EntriesValue{}
		for _, e := range entries {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(g.path(r.Path), e.Name()), &st); err != nil {
				return nil, failed(err)
			}
			out = append(out, wire.Entry{Name: e.Name(), Type: entryType(st.Mode >> 12)})
		}
		return out, failed(err)
	case *wire.Mkdir:
		if _, err := os.Stat(g.path(r.Path)); err == nil && r.Parents {
			return nil, nil
		}
		mkdir := os.Mkdir
		if r.Parents {
			mkdir = os.MkdirAll
		}
		if err := mkdir(g.path(r.Path), 0o755); err != nil || !r.SetPerm {
			return nil, failed(err)
		}
		return nil, failed(unix.Chmod(g.path(r.Path), r.Perm))
	case *wire.Unlink:
		return nil, failed(os.Remove(g.path(r.Path)))
	case *wire.Rename:
		return nil, failed(unix.Rename(g.path(r.From), g.path(r.To)))
	}
	return nil, wire.ErrnoError(uint32(unix.ENOSYS))
}

// encodePieces leaves out blocks of zeros.
func encodePieces(p []byte) (out []byte) {
	const block = 4096
	add := func(at int, p []byte) {
		out = append(out, make([]byte, wire.PieceHeader)...)
		wire.PutPiece(out[len(out)-wire.PieceHeader:], int64(at), len(p))
		out = append(out, p...)
	}
	for at := 0; at < len(p); at += block {
		if b := p[at:min(at+block, len(p))]; !bytes.Equal(b, make([]byte, len(b))) {
			add(at, b)
		}
	}
	add(len(p), nil)
	return out
}

func (g *fakeGuest) writePieces(r *wire.WriteFile, p []byte) error {
	f, err := os.Create(g.path(r.Path))
	if err != nil {
		return err
	}
	defer f.Close()
	var pieces wire.Pieces
	err = pieces.Feed(p, func(offset int64, p []byte) error {
		_, err := f.WriteAt(p, offset)
		return err
	})
	if err != nil {
		return err
	}
	size, err := pieces.Size()
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil || !r.SetPerm {
		return err
	}
	return unix.Chmod(f.Name(), r.Perm)
}

// pathArguments says which buffers of a call are paths, from the first on.
var pathArguments = map[int64]int{wire.CallOpenat: 1, wire.CallStatx: 1, wire.CallMkdirat: 1,
	wire.CallUnlinkat: 1, wire.CallRenameat2: 2, wire.CallFchmodat: 1, wire.CallReadlinkat: 1, wire.CallLinkat: 2,
	wire.CallMknodat: 1, wire.CallTruncate: 1, wire.CallFchownat: 1,
	wire.CallGetxattr: 1, wire.CallSetxattr: 1, wire.CallLgetxattr: 1, wire.CallLsetxattr: 1}

func (g *fakeGuest) syscall(op *localvmm.Op, r *wire.Syscall) (wire.Value, *wire.Error) {
	data, err := op.Bulk(r.Data)
	if err != nil {
		return nil, wire.ErrnoError(uint32(unix.ECANCELED))
	}
	g.mu.Lock()
	life, scripted := g.lives[r.Executor], g.syscalls[r.Nr]
	if r.Executor == wire.FilesExecutor {
		life = g.lives[0]
	}
	g.mu.Unlock()
	if r.Life != 0 && r.Life != life {
		return nil, &wire.Error{Text: "the executor has died since"}
	}
	answer := -len(data) // where the agent is to answer with a buffer, its length
	for _, n := range r.Lens {
		answer += int(n)
	}
	data = append(data, make([]byte, max(answer, 0))...)
	var bufs [][]byte
	for _, n := range r.Lens {
		bufs, data = append(bufs, data[:n:n]), data[n:]
	}
	if r.Async {
		g.mu.Lock()
		defer g.mu.Unlock()
		handle := g.next()
		g.calls[handle] = make(chan struct{})
		return wire.CountValue(handle), nil
	}
	v := &wire.SyscallValue{Life: life}
	if scripted != nil {
		v.Ret, v.Errno = scripted(r, bufs)
	} else {
		v.Ret, v.Errno = g.realSyscall(r, bufs)
	}
	if answer > 0 {
		v.Data = bufs[len(bufs)-1][:max(v.Ret, 0)]
		return v, nil
	}
	if r.Executor == wire.FilesExecutor {
		return v, nil
	}
	for _, b := range bufs {
		v.Data = append(v.Data, b...)
	}
	return v, nil
}

// realSyscall makes a system call of this process.
func (g *fakeGuest) realSyscall(r *wire.Syscall, bufs [][]byte) (int64, uint32) {
	var args [6]uintptr
	for i, a := range r.Args {
		args[i] = uintptr(a)
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	for i := 0; i+1 < len(r.Ptrs); i += 2 {
		b := bufs[r.Ptrs[i+1]]
		n := int(r.Ptrs[i+1])
		isPath := n < pathArguments[r.Nr] || n == 1 && r.Nr == wire.CallSymlinkat
		if isPath && len(b) > 1 { // an empty path is that of a descriptor
			b = append([]byte(g.path(strings.TrimSuffix(string(b), "\x00"))), 0)
		}
		pin.Pin(&b[0])
		args[r.Ptrs[i]] = uintptr(unsafe.Pointer(&b[0]))
	}
	if r.ExactMode {
		defer unix.Umask(unix.Umask(0))
	}
	ret, _, errno := unix.Syscall6(uintptr(r.Nr), args[0], args[1], args[2], args[3], args[4], args[5])
	if errno != 0 {
		return -1, uint32(errno)
	}
	return int64(ret), 0
}

func (g *fakeGuest) await(ctx context.Context, r *wire.SyscallAwait) (wire.Value, *wire.Error) {
	g.mu.Lock()
	done := g.calls[r.Handle]
	g.mu.Unlock()
	if done == nil {
		return nil, errNoSuch
	}
	var limit <-chan time.Time
	if r.TimeoutNS > 0 {
		limit = time.After(time.Duration(r.TimeoutNS))
	}
	select {
	case <-done:
		return &wire.SyscallValue{Ret: 7, Data: []byte("out")}, nil
	case <-limit:
		return nil, wire.ErrnoError(uint32(unix.ETIMEDOUT))
	case <-ctx.Done():
		return nil, wire.ErrnoError(uint32(unix.ECANCELED))
	}
}

// actors returns the agent and a worker of one VM.
func actors(t *testing.T) (*fakeVM, map[string]*Actor) {
	t.Helper()
	vm, agent := newVM(t)
	w, err := SpawnWorker(t.Context(), vm)
	if err != nil {
		t.Fatal(err)
	}
	return vm, map[string]*Actor{"vm": agent, "worker": w.AsActor()}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v, want %q", err, part)
		}
	}
}

var site = stream.Site{File: "a.test.lua", Line: 3, Test: "t"}

// next returns what a stream brings.
func next(t *testing.T, s *stream.Stream) string {
	t.Helper()
	p, err := s.Next(t.Context(), 10*time.Second)
	must(t, err)
	return string(p)
}
