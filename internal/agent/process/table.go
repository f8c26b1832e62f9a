package process

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent/session"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// maxStdin bounds the initial bytes of a process's standard input, which are
// kept here until the process reads them.
const maxStdin = 64 << 20

// closeGrace is how long a process that is closed has after SIGTERM.
const closeGrace = 2 * time.Second

// process is a command that outlives the operation that started it. It is
// reaped as soon as it ends, and kept until it is closed.
type process struct {
	id    uint64
	cmd   *Command
	pid   uint32
	out   [2]*spool // standard output, standard error
	stdin *feeder
	// terminal is our end of its terminal, nil for a process without one.
	terminal *os.File
	ended    chan struct{} // closed when it is reaped and its outputs are complete

	// Set before ended is closed.
	status unix.WaitStatus
	err    error
}

// Table starts commands and keeps those that outlive their operation, by handle.
// Use NewTable. It is safe for concurrent use.
type Table struct {
	resident    resident
	waiters     *sys.Waiters
	newHandle   func() uint64
	outputLimit int64 // see spool
	defaults    Defaults
	following   sync.WaitGroup // the goroutines that follow processes

	mu   sync.Mutex
	byID map[uint64]*process
}

// NewTable returns an empty Table. newHandle returns a handle that was not given out
// before. mounts is a descriptor of /proc/self/mountinfo, 0 for none. outputLimit is how
// much is kept of an output of a process, and how far it may run ahead of an open reader; 0
// is wire.MaxOutput.
func NewTable(mounts int, outputLimit int64, d Defaults, w *sys.Waiters, newHandle func() uint64) *Table {
	return &Table{
		outputLimit: cmp.Or(outputLimit, wire.MaxOutput), defaults: d,
		resident: resident{root: "/", mounts: mounts}, waiters: w, newHandle: newHandle,
		byID: make(map[uint64]*process),
	}
}

// WaitAll returns when every process has ended.
func (t *Table) WaitAll() { t.following.Wait() }

func (t *Table) add(p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID[p.id] = p
}

func (t *Table) get(id uint64) (*process, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.byID[id]; p != nil {
		return p, nil
	}
	return nil, &wire.Error{Text: fmt.Sprintf("the agent has no process %d", id)}
}

func (t *Table) remove(id uint64) {
	t.mu.Lock()
	delete(t.byID, id)
	t.mu.Unlock()
}

// Start starts a command that outlives the operation.
func (t *Table) Start(
	ctx context.Context, r *wire.ProcStart, body *session.Body, by Launcher,
) (wire.Value, error) {
	initial, err := body.All(maxStdin)
	if err != nil {
		return nil, err
	}
	if r.Worker != 0 && r.User != "" {
		const text = "a worker's commands run with its own credentials: change those, `user` is not possible"
		return nil, &wire.Error{Text: text}
	}
	l, err := t.launch(&r.Run, by)
	if err != nil {
		return nil, err
	}
	p := &process{id: t.newHandle(), ended: make(chan struct{})}
	if r.TTY {
		return t.startOnTerminal(ctx, p, l, r.Size, by, initial)
	}
	cmd, ours, err := startPiped(ctx, by, l, !r.NoStdin)
	if err != nil {
		return nil, err
	}
	p.cmd, p.pid = cmd, uint32(cmd.pid)
	if p.stdin = (&feeder{closed: true}); !r.NoStdin {
		p.stdin = newFeeder(ours[0], initial)
	}
	for i := range p.out {
		p.out[i] = newSpool(t.outputLimit)
	}
	t.add(p)
	t.following.Go(func() { p.follow([2]*os.File{ours[1], ours[2]}) })
	return &wire.ProcValue{Handle: p.id, PID: p.pid}, nil
}

// startOnTerminal completes Start for a command with a terminal of its own.
func (t *Table) startOnTerminal(
	ctx context.Context, p *process, l *Launch, size wire.TerminalSize, by Launcher, initial []byte,
) (wire.Value, error) {
	cmd, in, out, err := startOnTerminal(ctx, by, l, size)
	if err != nil {
		return nil, err
	}
	p.cmd, p.pid, p.terminal = cmd, uint32(cmd.pid), out
	p.stdin = newFeeder(in, initial)
	p.out = [2]*spool{newSpool(t.outputLimit), newSpool(t.outputLimit)}
	t.add(p)
	t.following.Go(func() { p.follow([2]*os.File{out, nil}) })
	return &wire.ProcValue{Handle: p.id, PID: p.pid}, nil
}

// startPiped starts a program with three pipes, or two without stdin, and returns our
// ends, which are in the runtime's poller.
func startPiped(
	ctx context.Context, by Launcher, l *Launch, stdin bool,
) (cmd *Command, ours [3]*os.File, err error) {
	var child [3]int
	first, made := 0, 0
	if !stdin {
		first, made = 1, 1
	}
	defer func() {
		for i := first; i < made; i++ {
			sys.CloseNow(child[i])
			if err != nil && ours[i] != nil {
				ours[i].Close()
			}
		}
	}()
	for i := first; i < len(ours); i++ {
		var ends [2]int
		if err = sys.Pipe(&ends); err != nil {
			return nil, ours, err
		}
		mine := ends[0]
		if child[i] = ends[1]; i == 0 {
			child[i], mine = ends[0], ends[1]
		}
		made++
		if ours[i], _, err = sys.Pollable(mine, "pipe"); err != nil {
			return nil, ours, err
		}
	}
	l.Files = child
	cmd, err = launched(ctx, by, l)
	return cmd, ours, err
}

// follow takes the outputs, waits for the end, and reat.
func (p *process) follow(outputs [2]*os.File) {
	var collectors sync.WaitGroup
	for i, f := range outputs {
		if f == nil { // with a terminal there is one output
			p.out[i].finish()
			continue
		}
		collectors.Add(1)
		go func() {
			defer collectors.Done()
			p.out[i].collect(f, p.terminal != nil)
		}()
	}
	sys.AwaitExit(p.cmd.Pidfd)
	p.status, p.err = p.cmd.Wait()
	for i, s := range p.out {
		s.end()
		if outputs[i] != nil {
			// Wakes the collector, which takes what is in the pipe now.
			_ = outputs[i].SetReadDeadline(sys.Past)
		}
	}
	p.stdin.stop()
	collectors.Wait()
	close(p.ended)
}

// collect takes an output until its end or, once the process has ended, what is
// in the pipe or terminal then. What others write to it later is dropped.
func (s *spool) collect(f *os.File, terminal bool) {
	defer s.finish()
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return
	}
	spare := make([]byte, 16<<10)
	wide := false
	for {
		s.room()
		n := 0
		var failed error
		own := false
		err := raw.Read(func(fd uintptr) bool {
			var p []byte
			p, own = s.space(spare) // that may change while there is nothing to read
			n, failed = sys.ReadNow(int(fd), p)
			return failed != unix.EAGAIN
		})
		s.add(n, own)
		if n >= widenAt && !wide && !terminal {
			// As for the outputs of run.
			wide = true
			_ = raw.Control(func(fd uintptr) {
				_, _ = sys.Call(unix.SYS_FCNTL, fd, unix.F_SETPIPE_SZ, widePipe)
			})
		}
		switch {
		case err == nil && failed == nil && n > 0:
		case os.IsTimeout(err):
			if terminal && s.readAll(raw, spare) || !terminal && s.drain(f, spare) {
				f.Close()
				return
			}
			_ = f.SetReadDeadline(sys.Never)
			go func() {
				defer f.Close()
				for {
					if _, err := f.Read(spare); err != nil {
						return
					}
				}
			}()
			return
		default:
			f.Close()
			return
		}
	}
}

// drain takes what a pipe holds now, and reports whether that was its end.
func (s *spool) drain(f *os.File, spare []byte) (end bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return true
	}
	_ = raw.Control(func(fd uintptr) {
		left, err := sys.PipeBytes(int(fd))
		for err == nil && left > 0 {
			var n int
			p, own := s.space(spare)
			if n, err = sys.ReadNow(int(fd), p[:min(left, len(p))]); n == 0 {
				break
			}
			s.add(n, own)
			left -= n
		}
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, e := sys.PollNow(fds)
		end = err != nil || e == nil && n == 1
	})
	return end
}
