package executor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent/process"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// Commands and workers are forked by an executor, so that they have what the calls
// of the test have made of it. Their parent is the agent all the same (CLONE_PARENT).

// errBusy is returned while the main thread of an executor makes calls.
var errBusy = errors.New("the executor is busy")

const (
	// busyLimit is how long a call on the main thread is waited for before a fresh
	// executor takes the busy one's place.
	busyLimit    = 20 * time.Millisecond
	computeLimit = time.Second // the same for one that computes
	busyStep     = time.Millisecond
	// stopLimit is how long an executor may be stopped before that is an error.
	stopLimit = time.Second
	stopStep  = 10 * time.Millisecond
)

// Launcher starts commands from one executor.
type Launcher struct {
	pool *Pool
	id   uint64
}

// Launcher returns what starts commands from the executor of a handle.
func (s *Pool) Launcher(id uint64) Launcher { return Launcher{s, id} }

// Root returns the agent's path to the executor's root directory, "" where that is the
// agent's.
func (l Launcher) Root() (string, error) {
	x, err := l.pool.Get(l.id)
	if err != nil {
		return "", err
	}
	path := strings.TrimSuffix(x.View("/"), "/")
	if !x.isTouched() {
		return "", nil
	}
	if theirs, err := sys.Identify(unix.AT_FDCWD, path+"/."); err == nil {
		if ours, err := sys.Identify(unix.AT_FDCWD, "/"); err == nil && ours == theirs {
			return "", nil
		}
	}
	return path, nil
}

// isTouched reports whether a test has made calls that may have moved the executor
// elsewhere.
func (x *Executor) isTouched() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.touched
}

// Launch starts a command from the executor. The VM's may end at any time, also by a
// signal of a command to its group: then a fresh one starts what the last one has not.
func (l Launcher) Launch(ctx context.Context, c *process.Launch) (*process.Command, error) {
	cmd, err := l.launch(ctx, c)
	if l.id == 0 && isLost(err) {
		return l.launch(ctx, c)
	}
	return cmd, err
}

func (l Launcher) launch(ctx context.Context, c *process.Launch) (*process.Command, error) {
	x, err := l.pool.Get(l.id)
	if err != nil {
		return nil, err
	}
	cmd, err := x.launch(ctx, c)
	if err != errBusy {
		return cmd, err
	}
	stand, err := x.standIn(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer stand.stop()
	return stand.launch(ctx, c)
}

// launch starts a command.
func (x *Executor) launch(ctx context.Context, l *process.Launch) (*process.Command, error) {
	r := spawnRequest(l)
	null := l.Files[0] == 0
	if null {
		var err error
		if r.fds[0], err = x.pool.null(); err != nil {
			return nil, err
		}
		if r.fds[0] != x.pool.starter.DevNull {
			defer sys.CloseNow(r.fds[0])
		}
	}
	pipe := -1
	if r.flags&execAtOnce == 0 {
		var p [2]int
		if err := sys.ReportPipe(&p); err != nil {
			return nil, err
		}
		defer sys.CloseNow(p[1])
		pipe, r.fds = p[0], append(r.fds, p[1])
	}
	a, err := x.birth(ctx, r)
	if err == nil && a.ret < 0 && a.kind == process.ReportKept && pipe < 0 {
		l.AtOnce = false
		return x.launch(ctx, l)
	}
	if err == nil && a.ret < 0 {
		err = l.Failure(0, a.errno)
	}
	var child *process.Child
	if err == nil {
		child, err = x.child(&a)
	}
	if err == nil && a.errno != 0 {
		_, _ = child.Wait()
		sys.CloseNow(child.Pidfd)
		err = l.Failure(a.kind, a.errno)
	}
	if err != nil {
		if pipe >= 0 {
			sys.CloseNow(pipe)
		}
		return nil, err
	}
	return x.pool.starter.NewCommand(l, child, pipe, l.KillSession || child.Adopted), nil
}

// null returns a descriptor of /dev/null.
func (s *Pool) null() (int, error) {
	if s.starter.DevNull != 0 {
		return s.starter.DevNull, nil
	}
	return sys.Open("/dev/null", unix.O_RDWR, 0)
}

// spawnRequest returns the request for a command; its descriptor 0 may be missing.
func spawnRequest(l *process.Launch) *request {
	r := &request{kind: execSpawn, fds: append(make([]int, 0, 4), l.Files[:]...)}
	for _, f := range [...]struct {
		flag uint32
		on   bool
	}{{execSetsid, l.Setsid}, {execKeeper, l.KillSession}, {execAtOnce, l.AtOnce}, {execNull, l.Files[0] == 0},
		{execTerminal, l.Terminal}} {
		if f.on {
			r.flags |= f.flag
		}
	}
	r.args[0], r.args[1] = int64(len(l.Argv)), int64(len(l.Env))
	if c := l.Credential; c != nil {
		r.flags |= execUser
		r.args[2], r.args[3], r.args[4] = int64(c.Uid), int64(c.Gid), int64(len(c.Groups))
		for _, g := range c.Groups {
			r.data = binary.NativeEndian.AppendUint32(r.data, g)
		}
	}
	r.data = terminated(r.data, l.Dir, l.Path)
	r.data = terminated(r.data, l.Argv...)
	r.data = terminated(r.data, l.Env...)
	r.lens = []uint64{uint64(len(r.data))}
	return r
}

func terminated(b []byte, texts ...string) []byte {
	for _, t := range texts {
		b = append(append(b, t...), 0)
	}
	return b
}

// child returns the process that an answer is about.
func (x *Executor) child(a *execAnswer) (*process.Child, error) {
	if a.fd < 0 {
		// A kernel before 5.2; its name in our PID namespace is not told.
		return process.NewChild(int(a.ret), -1)
	}
	pid := int(a.ret)
	if x.nested {
		var err error
		if pid, _, err = identify(a.fd); err != nil {
			sys.CloseNow(a.fd)
			return nil, err
		}
	}
	if a.kind == process.ReportKept {
		return &process.Child{PID: pid, Pidfd: a.fd, Adopted: true}, nil
	}
	return process.NewChild(pid, a.fd)
}

// birth makes a request that has the executor fork. It waits until the main thread
// has time for it, but not for long: then it returns errBusy, and nothing has
// happened.
func (x *Executor) birth(ctx context.Context, r *request) (execAnswer, error) {
	if err := x.awaitRunning(ctx); err != nil {
		return execAnswer{fd: -1}, err
	}
	for begun := time.Now(); ; {
		a, ch, err := x.exchange(r, true)
		switch {
		case err == errBusy && x.mayReturn(time.Since(begun)):
			time.Sleep(busyStep)
			continue
		case err != nil:
			return execAnswer{fd: -1}, err
		case a != nil:
			return *a, nil
		}
		return x.awaitBirth(ctx, ch)
	}
}

// mayReturn reports whether the call on the main thread is worth waiting for, which
// it is while that thread computes.
func (x *Executor) mayReturn(waited time.Duration) bool {
	return waited < busyLimit || waited < computeLimit && x.pool.starter.Computes(x.cmd.PID)
}

// awaitRunning returns an error when the executor is stopped and stays so.
func (x *Executor) awaitRunning(ctx context.Context) error {
	for limit := time.Now().Add(stopLimit); x.cmd.IsStopped(); {
		if time.Now().After(limit) {
			return x.errStopped()
		}
		select {
		case <-time.After(stopStep):
		case <-ctx.Done():
			return context.Canceled
		}
	}
	return nil
}

func (x *Executor) errStopped() error {
	who := "the VM's executor"
	if x.id != 0 {
		who = "the worker"
	}
	return &wire.Error{Text: fmt.Sprintf("%s (process %d) is stopped, as by SIGSTOP, and can start no process: "+
		"send it SIGCONT", who, x.cmd.PID)}
}

// awaitBirth waits for the answer. What is born after that was given up is killed.
func (x *Executor) awaitBirth(ctx context.Context, ch chan execAnswer) (execAnswer, error) {
	tick := time.NewTicker(stopStep)
	defer tick.Stop()
	var err error
	for stopped := time.Duration(0); err == nil; {
		select {
		case a := <-ch:
			return a, a.err
		case <-ctx.Done():
			err = context.Canceled
		case <-tick.C:
			if stopped += stopStep; !x.cmd.IsStopped() {
				stopped = 0
			}
			if stopped > stopLimit {
				err = x.errStopped()
			}
		}
	}
	x.pool.reaping.Go(func() {
		a := <-ch
		if a.err != nil || a.ret < 0 {
			return
		}
		if c, err := x.child(&a); err == nil {
			c.Kill()
			sys.AwaitExit(c.Pidfd)
			_, _ = c.Wait()
		}
	})
	return execAnswer{fd: -1}, err
}

// standIn returns a fresh executor that has taken over what it can of a busy one.
func (x *Executor) standIn(ctx context.Context, id uint64) (*Executor, error) {
	s := x.pool
	fresh, err := s.start(id)
	if err != nil {
		return nil, err
	}
	proc := s.starter.Proc
	if proc == 0 {
		if proc, err = sys.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
			defer sys.CloseNow(proc)
		}
	}
	var a execAnswer
	if err == nil {
		a, err = fresh.do(ctx, &request{kind: execAdopt, args: [6]int64{int64(x.cmd.PID)}, fds: []int{proc}})
	}
	if err == nil && a.errno != 0 {
		err = fmt.Errorf("the executor is busy with a system call, and another one could not take its place: %w",
			syscall.Errno(a.errno))
	}
	if err != nil {
		fresh.stop()
		return nil, err
	}
	fresh.touched = true
	return fresh, nil
}

// fork returns a worker that is a copy of the executor.
func (x *Executor) fork(ctx context.Context, id uint64) (*Executor, error) {
	ours, theirs, err := link()
	if err != nil {
		return nil, err
	}
	defer sys.CloseNow(theirs)
	a, err := x.birth(ctx, &request{kind: execFork, fds: []int{theirs}})
	if err == nil && a.errno != 0 {
		err = syscall.Errno(a.errno)
	}
	var child *process.Child
	if err == nil {
		child, err = x.child(&a)
	}
	if err != nil {
		sys.CloseNow(ours)
		return nil, err
	}
	x.mu.Lock()
	touched, entered, confined := x.touched, x.entered, x.confined
	x.mu.Unlock()
	nested := false
	if entered && a.fd >= 0 {
		// Where it has ended already, there is nothing to name.
		_, nested, _ = identify(a.fd)
	}
	w := x.pool.newExecutor(id, child, ours)
	w.nested, w.touched, w.entered, w.confined = nested, touched, entered, confined
	return w, nil
}

func (s *Pool) fork(ctx context.Context, id uint64) (*Executor, error) {
	x, err := s.Get(0)
	if err != nil {
		return nil, err
	}
	w, err := x.fork(ctx, id)
	if err == errBusy {
		w, err = x.standIn(ctx, id)
	}
	return w, err
}

// SpawnWorker returns the handle of a new worker, which is born from the VM's
// executor.
func (s *Pool) SpawnWorker(ctx context.Context) (wire.Value, error) {
	id := s.newHandle()
	w, err := s.fork(ctx, id)
	if isLost(err) {
		w, err = s.fork(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.put(w)
	s.mu.Unlock()
	return wire.CountValue(id), nil
}

// identify returns the process id of a pidfd, as this process sees it, and reports
// whether the process is in a PID namespace below ours.
func identify(pidfd int) (pid int, nested bool, err error) {
	text, err := sys.ReadSmall(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return 0, false, err
	}
	for line := range strings.SplitSeq(text, "\n") {
		if v, ok := strings.CutPrefix(line, "Pid:"); ok {
			if pid, err = strconv.Atoi(strings.TrimSpace(v)); err != nil {
				return 0, false, err
			}
		}
		if v, ok := strings.CutPrefix(line, "NSpid:"); ok {
			nested = len(strings.Fields(v)) > 1
		}
	}
	if pid <= 0 {
		return 0, false, errors.New("a pidfd without a process id")
	}
	return pid, nested, nil
}
