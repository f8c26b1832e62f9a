package agent

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// maxStdin bounds the initial bytes of a process's standard input, which are
// held here until it reads them.
const maxStdin = 64 << 20

// closeGrace is how long a process that is closed has after SIGTERM.
const closeGrace = 2 * time.Second

// process is a command that outlives the operation that started it. It is
// reaped as soon as it ends, and kept until it is closed.
type process struct {
	id    uint64
	cmd   *command
	pid   uint32
	out   [2]*spool // standard output, standard error
	stdin *feeder
	ended chan struct{} // closed when it is reaped and its outputs are complete

	// Set before ended is closed.
	status unix.WaitStatus
	err    error
}

// processes are those of an agent, by handle.
type processes struct {
	mu   sync.Mutex
	byID map[uint64]*process
}

func (ps *processes) add(p *process) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.byID == nil {
		ps.byID = make(map[uint64]*process)
	}
	ps.byID[p.id] = p
}

func (ps *processes) get(id uint64) (*process, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.byID[id]; p != nil {
		return p, nil
	}
	return nil, &wireError{Text: fmt.Sprintf("the agent has no process %d", id)}
}

func (ps *processes) remove(id uint64) {
	ps.mu.Lock()
	delete(ps.byID, id)
	ps.mu.Unlock()
}

// launch starts a program; files are its first three descriptors.
type launch func(path string, argv, env []string, dir string, files [3]int, user *account) (*command, error)

// launch starts it as the agent does.
func (a *Agent) launch(path string, argv, env []string, dir string, files [3]int, user *account) (*command, error) {
	return a.start(path, argv, &syscall.ProcAttr{
		Dir:   dir,
		Env:   env,
		Files: []uintptr{uintptr(files[0]), uintptr(files[1]), uintptr(files[2])},
		Sys:   &syscall.SysProcAttr{Setsid: true, Credential: user.credential()},
	})
}

// procStart starts a command that goes on by itself.
func (o *op) procStart(r *wire.ProcStart, body *body) (wire.Value, error) {
	initial, err := body.all(maxStdin)
	if err != nil {
		return nil, err
	}
	var user *account
	if r.User != "" {
		if user, err = lookUpAccount(r.User); err != nil {
			return nil, err
		}
	}
	env := environment(&r.Run, user)
	start, dir := launch(o.agent.launch), cwd(&r.Run)
	var path string
	var argv []string
	if r.Worker != 0 {
		if r.User != "" {
			return nil, &wireError{Text: "a worker's commands run with its own credentials: change those, `user` is not possible"}
		}
		x, err := o.agent.executor(r.Worker)
		if err != nil {
			return nil, err
		}
		start, dir = o.launcher(x), r.Cwd
		if path, argv = "/bin/sh", []string{"/bin/sh", "-c", r.Shell}; len(r.Args) > 0 {
			path, argv = r.Args[0], r.Args
		}
	} else if path, argv, err = program(&r.Run, env); err != nil {
		return nil, err
	}
	p := &process{id: o.agent.handles.Add(1), ended: make(chan struct{})}
	cmd, ours, err := startPiped(start, path, argv, env, dir, user)
	if err != nil {
		return nil, err
	}
	p.cmd, p.pid = cmd, uint32(cmd.pid)
	p.stdin = newFeeder(ours[0], initial)
	for i := range p.out {
		p.out[i] = newSpool()
	}
	o.agent.procs.add(p)
	o.agent.children.Add(1)
	go func() {
		defer o.agent.children.Done()
		p.follow([2]*os.File{ours[1], ours[2]})
	}()
	return &wire.ProcValue{Handle: p.id, PID: p.pid}, nil
}

// startPiped starts a program with three pipes and gives our ends, which are
// on the runtime's poller.
func startPiped(start launch, path string, argv, env []string, dir string, user *account) (cmd *command, ours [3]*os.File, err error) {
	var child [3]int
	made := 0
	defer func() {
		for i := range made {
			closeNow(child[i])
			if err != nil && ours[i] != nil {
				ours[i].Close()
			}
		}
	}()
	for i := range ours {
		var ends [2]int
		if err = pipe(&ends); err != nil {
			return nil, ours, err
		}
		mine := ends[0]
		if child[i] = ends[1]; i == 0 {
			child[i], mine = ends[0], ends[1]
		}
		made++
		if ours[i], _, err = pollable(mine, "pipe"); err != nil {
			return nil, ours, err
		}
	}
	if cmd, err = start(path, argv, env, dir, child, user); err != nil {
		var st unix.Stat_t
		if e := unix.Stat(dir, &st); dir != "" && e != nil {
			err = cwdError(dir, e)
		}
	}
	return cmd, ours, err
}

// follow takes the outputs, waits for the end, and reaps.
func (p *process) follow(outputs [2]*os.File) {
	var collectors sync.WaitGroup
	for i, f := range outputs {
		collectors.Add(1)
		go func() {
			defer collectors.Done()
			p.out[i].collect(f)
		}()
	}
	awaitExit(p.cmd.pidfd)
	p.status, p.err = p.cmd.wait()
	for i, s := range p.out {
		s.end()
		// Wakes the collector, which takes what is in the pipe now.
		_ = outputs[i].SetReadDeadline(time.Unix(1, 0))
	}
	p.stdin.stop()
	collectors.Wait()
	close(p.ended)
}

// collect takes an output until its end or, once the process has ended, what
// is in the pipe then. Who still has the other end open writes into the void.
func (s *spool) collect(f *os.File) {
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
			n, failed = readNow(int(fd), p)
			return failed != unix.EAGAIN
		})
		s.add(n, own)
		if n >= widenAt && !wide {
			// As for the outputs of run.
			wide = true
			_ = raw.Control(func(fd uintptr) { _, _ = rawCall(unix.SYS_FCNTL, fd, unix.F_SETPIPE_SZ, widePipe) })
		}
		switch {
		case err == nil && failed == nil && n > 0:
		case os.IsTimeout(err):
			if s.drain(f, spare) {
				f.Close()
				return
			}
			_ = f.SetReadDeadline(time.Time{})
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

// drain takes what a pipe holds now and tells whether that was its end.
func (s *spool) drain(f *os.File, spare []byte) (end bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return true
	}
	_ = raw.Control(func(fd uintptr) {
		left, err := pipeBytes(int(fd))
		for err == nil && left > 0 {
			var n int
			p, own := s.space(spare)
			if n, err = readNow(int(fd), p[:min(left, len(p))]); n == 0 {
				break
			}
			s.add(n, own)
			left -= n
		}
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, e := pollNow(fds)
		end = err != nil || e == nil && n == 1
	})
	return end
}
