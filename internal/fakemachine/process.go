package fakemachine

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/localvmm"
	"provium/internal/wire"
)

// Program is what a process of a fake guest does. It returns the exit code; a
// process that was killed ends when its Program returns.
type Program func(p *Process) (code int)

// Process is a process as its Program sees it. Read reads standard input.
type Process struct {
	Args    []string // with the program's name
	Env     []string
	Cwd     string
	User    string
	Files   *Files
	Context context.Context // ends when the process is killed

	p *process
}

// Read reads from standard input and waits for some.
func (p *Process) Read(b []byte) (n int, err error) {
	for {
		p.p.mu.Lock()
		n = copy(b, p.p.stdin)
		p.p.stdin = p.p.stdin[n:]
		closed, changed := p.p.stdinClosed, p.p.changed
		p.p.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case closed:
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-p.Context.Done():
			return 0, context.Cause(p.Context)
		}
	}
}

// AwaitSize waits until the process's terminal has a size.
func (p *Process) AwaitSize(want wire.TerminalSize) error {
	return p.p.until(p.Context, func() bool { return p.p.size == want })
}

// Print writes to standard output, Complain to standard error.
func (p *Process) Print(text string) {
	p.p.update(func() { p.p.Stdout = append(p.p.Stdout, text...) })
}

// Complain writes to standard error.
func (p *Process) Complain(text string) {
	p.p.update(func() { p.p.Stderr = append(p.p.Stderr, text...) })
}

// process is a process as the agent sees it. What is exported is in snapshots; one
// that ran at a snapshot is there in the restored guest, and does nothing.
type process struct {
	PID    uint32
	Ended  bool
	Status wire.RunStatus
	Code   uint32
	Stdout []byte
	Stderr []byte

	work   sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc

	mu          sync.Mutex
	stdin       []byte
	stdinClosed bool
	size        wire.TerminalSize
	frozen      bool          // no Program runs
	signal      uint32        // that killed it, or 0
	changed     chan struct{} // closed and replaced at each change
}

func (p *process) init() {
	p.changed = make(chan struct{})
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.frozen = !p.Ended
}

func (p *process) copy() *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &process{PID: p.PID, Ended: p.Ended, Status: p.Status, Code: p.Code, Stdout: slices.Clone(p.Stdout),
		Stderr: slices.Clone(p.Stderr)}
}

func (p *process) update(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Kill ends the process by a signal.
func (p *process) Kill(signal uint32) {
	p.update(func() {
		if p.signal == 0 {
			p.signal = signal
		}
		if p.frozen && !p.Ended {
			p.Ended, p.Status, p.Code = true, wire.Signalled, p.signal
		}
	})
	p.cancel()
}

func (p *process) run(program Program, as *Process) {
	code := program(as)
	p.update(func() {
		p.Ended, p.Code = true, uint32(code)
		if p.signal != 0 {
			p.Status, p.Code = wire.Signalled, p.signal
		}
	})
}

// until waits until ready, which is called with p.mu held, returns true.
func (p *process) until(ctx context.Context, ready func() bool) error {
	for {
		p.mu.Lock()
		is, changed := ready(), p.changed
		p.mu.Unlock()
		if is {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// wait waits for the end of the process, which is killed at the limit (0 is no limit).
func (p *process) wait(ctx context.Context, limit time.Duration) (wire.Value, *wire.Error) {
	timedOut := false
	limited := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	ended := func() bool { return p.Ended }
	if p.until(limited, ended) != nil {
		if ctx.Err() != nil {
			return nil, Errno(wireECANCELED)
		}
		timedOut = true
		p.Kill(9)
		if p.until(ctx, ended) != nil {
			return nil, Errno(wireECANCELED)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	v := &wire.RunValue{Status: p.Status, Code: p.Code, Stdout: slices.Clone(p.Stdout), Stderr: slices.Clone(p.Stderr)}
	if timedOut {
		v.Status, v.Code = wire.TimedOut, 0
	}
	return v, nil
}

func (p *process) value(handle uint64) *wire.ProcValue {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &wire.ProcValue{Handle: handle, PID: p.PID, Ended: p.Ended, Status: p.Status}
}

// Program installs a program that commands of the guest start by its name.
func (m *Machine) Program(name string, do Program) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.programs[name] = do
}

func (m *Machine) program(name string) Program {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.programs[name]; p != nil {
		return p
	}
	return builtins[name]
}

// start starts a command.
func (m *Machine) start(r *wire.Run, stdin []byte, closed bool) (uint64, *process, *wire.Error) {
	args := r.Args
	program := m.shell(r.Shell)
	if r.Shell == "" && len(args) > 0 {
		program = m.program(args[0])
	}
	if program == nil {
		return 0, nil, Errno(uint32(unix.ENOENT))
	}
	p := &process{stdin: stdin, stdinClosed: closed}
	p.init()
	p.frozen = false
	as := &Process{Args: args, Env: r.Env, Cwd: r.Cwd, User: r.User, Files: m.Files, Context: p.ctx, p: p}
	s := m.state()
	s.mu.Lock()
	handle := s.next()
	p.PID = uint32(handle)
	s.Processes[handle] = p
	p.work.Go(func() { p.run(program, as) })
	s.mu.Unlock()
	return handle, p, nil
}

func (m *Machine) processOp(ctx context.Context, op *localvmm.Op, r wire.Request) (v wire.Value, failure *wire.Error,
	known bool) {
	s := m.state()
	find := func(handle uint64) *process {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.Processes[handle]
	}
	forget := func(handle uint64, p *process) {
		p.Kill(15)
		p.work.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.Processes, handle)
	}
	on := func(handle uint64, do func(*process) (wire.Value, *wire.Error)) (wire.Value, *wire.Error, bool) {
		p := find(handle)
		if p == nil {
			return nil, &wire.Error{Text: "no such process of the agent"}, true
		}
		v, failure := do(p)
		return v, failure, true
	}
	switch r := r.(type) {
	case *wire.Run:
		stdin, err := op.Bulk(r.Stdin)
		if err != nil {
			return nil, Errno(wireECANCELED), true
		}
		handle, p, failure := m.start(r, stdin, true)
		if failure != nil {
			return nil, failure, true
		}
		defer forget(handle, p)
		v, failure := p.wait(ctx, time.Duration(r.TimeoutNS))
		if failure != nil && ctx.Err() != nil { // it is cancelled, which tells what it has printed
			p.mu.Lock()
			defer p.mu.Unlock()
			return &wire.RunValue{Status: wire.TimedOut, Stdout: slices.Clone(p.Stdout),
				Stderr: slices.Clone(p.Stderr)}, nil, true
		}
		return v, failure, true
	case *wire.ProcStart:
		v, failure = m.startProcess(op, r)
		return v, failure, true
	case *wire.ProcResize:
		return on(r.Handle, func(p *process) (wire.Value, *wire.Error) {
			p.update(func() { p.size = r.Size })
			return nil, nil
		})
	case *wire.ProcStatus:
		return on(r.Handle, func(p *process) (wire.Value, *wire.Error) { return p.value(r.Handle), nil })
	case *wire.ProcWait:
		return on(r.Handle, func(p *process) (wire.Value, *wire.Error) {
			v, failure := p.wait(ctx, time.Duration(r.TimeoutNS))
			if run, ok := v.(*wire.RunValue); ok && r.NoOutput {
				run.Stdout, run.Stderr = nil, nil
			}
			return v, failure
		})
	case *wire.ProcSignal:
		return on(r.Handle, func(p *process) (wire.Value, *wire.Error) { return nil, p.signalled(r.Signal) })
	case *wire.ProcWrite:
		return on(r.Handle, func(p *process) (wire.Value, *wire.Error) { return p.take(op, r) })
	case *wire.ProcCloseStdin:
		return on(r.Handle, func(p *process) (wire.Value, *wire.Error) {
			p.update(func() { p.stdinClosed = true })
			return nil, nil
		})
	case *wire.ProcOutput:
		return on(r.Handle, func(p *process) (wire.Value, *wire.Error) { return nil, p.output(ctx, op, r) })
	case *wire.ProcClose:
		return on(r.Handle, func(p *process) (wire.Value, *wire.Error) {
			forget(r.Handle, p)
			return nil, nil
		})
	}
	return nil, nil, false
}

// startProcess starts a process that outlives the operation.
func (m *Machine) startProcess(op *localvmm.Op, r *wire.ProcStart) (wire.Value, *wire.Error) {
	stdin, err := op.Bulk(r.Stdin)
	if err != nil {
		return nil, Errno(wireECANCELED)
	}
	handle, p, failure := m.start(&r.Run, stdin, r.NoStdin)
	if failure != nil {
		return nil, failure
	}
	p.update(func() { p.size = r.Size })
	return p.value(handle), nil
}

func (p *process) signalled(signal uint32) *wire.Error {
	p.mu.Lock()
	ended := p.Ended
	p.mu.Unlock()
	if ended {
		return Errno(uint32(unix.ESRCH))
	}
	if signal != 0 && signal != uint32(unix.SIGCHLD) && signal != uint32(unix.SIGWINCH) {
		p.Kill(signal)
	}
	return nil
}

func (p *process) take(op *localvmm.Op, r *wire.ProcWrite) (wire.Value, *wire.Error) {
	data, err := op.Bulk(r.Data)
	if err != nil {
		return nil, Errno(wireECANCELED)
	}
	ok := false
	p.update(func() {
		if ok = !p.stdinClosed && !p.Ended; ok {
			p.stdin = append(p.stdin, data...)
		}
	})
	if !ok {
		return nil, Errno(uint32(unix.EPIPE))
	}
	return wire.CountValue(len(data)), nil
}

// output streams one output from its first byte on.
func (p *process) output(ctx context.Context, op *localvmm.Op, r *wire.ProcOutput) *wire.Error {
	if op.Send(wire.StreamData, nil) != nil {
		return Errno(wireECANCELED)
	}
	if r.Last > 0 {
		p.mu.Lock()
		out := p.Stdout
		if r.Stderr {
			out = p.Stderr
		}
		out = slices.Clone(out[max(0, len(out)-int(r.Last)):])
		p.mu.Unlock()
		if len(out) > 0 && op.Send(wire.StreamData, out) != nil {
			return Errno(wireECANCELED)
		}
		return nil
	}
	for at, ended := 0, false; !ended; {
		var fresh []byte
		err := p.until(ctx, func() bool {
			out := p.Stdout
			if r.Stderr {
				out = p.Stderr
			}
			fresh, ended = slices.Clone(out[at:]), p.Ended
			return len(fresh) > 0 || ended
		})
		if err != nil || len(fresh) > 0 && op.Send(wire.StreamData, fresh) != nil {
			return Errno(wireECANCELED)
		}
		at += len(fresh)
	}
	return nil
}
