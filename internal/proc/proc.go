// Package proc starts processes on the host that cannot outlive Provium: each
// child gets SIGKILL from the kernel when its parent ends, however it ends. What
// may start further processes is started below a keeper, which ends those, too.
//
// It is the only place that starts host processes. It knows nothing of what
// the children do; supervising them is the caller's work. Start reading with
// Starter, then StartTree.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Starter starts children from OS threads that live as long as the
// Starter. The parent-death signal of Linux fires when the *thread* that
// forked ends (prctl(2), PR_SET_PDEATHSIG), and the Go runtime ends idle
// threads at will, so an ordinary exec.Cmd.Start would kill children at random.
//
// A Starter is safe for concurrent use. Closing it kills all children that it
// started and that still run.
type Starter struct {
	plain   *thread
	bare    *thread // without privileges
	reading *thread // the same, but permissions of files are ignored
	quit    chan struct{}
	done    sync.WaitGroup
}

// thread is an OS thread that starts processes.
type thread struct {
	requests chan request
	prepare  func() // called on it before the first request
}

type request struct {
	do     func() error
	result chan error
}

// NewStarter makes a Starter and its threads.
func NewStarter() *Starter {
	s := &Starter{quit: make(chan struct{}), plain: &thread{prepare: func() {}},
		bare:    &thread{prepare: withoutPrivileges()},
		reading: &thread{prepare: withoutPrivileges(unix.CAP_DAC_OVERRIDE)}}
	for _, t := range []*thread{s.plain, s.bare, s.reading} {
		t.requests = make(chan request)
		s.done.Go(func() { t.serve(s.quit) })
	}
	return s
}

func (t *thread) serve(quit <-chan struct{}) {
	prepare := sync.OnceFunc(func() {
		// Never unlocked: the thread ends with this goroutine, and with it every
		// child that is still there.
		runtime.LockOSThread()
		t.prepare()
	})
	for {
		select {
		case r := <-t.requests:
			prepare()
			r.result <- r.do()
		case <-quit:
			return
		}
	}
}

// on calls do on a thread.
func (s *Starter) on(t *thread, do func() error) error {
	r := request{do: do, result: make(chan error, 1)}
	select {
	case t.requests <- r:
		return <-r.result
	case <-s.quit:
		return ErrClosed
	}
}

// ErrClosed says that the Starter was closed before the call.
var ErrClosed = errors.New("proc: starter is closed")

// start starts cmd from a thread in a process group of its own. It gets a signal when we
// end.
func (s *Starter) start(from *thread, cmd *exec.Cmd, deathSignal syscall.Signal) error {
	attr := syscall.SysProcAttr{}
	if cmd.SysProcAttr != nil {
		attr = *cmd.SysProcAttr
	}
	attr.Pdeathsig = deathSignal
	attr.Setpgid = true
	cmd.SysProcAttr = &attr
	return s.on(from, func() error {
		err := cmd.Start()
		if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
			failed.Op = startOp
		}
		return err
	})
}

// startOp is what errors call the start of a program.
const startOp = "start"

// ownProgram is this program, also after its file was replaced.
const ownProgram = "/proc/self/exe"

// checkProgram returns the error that a start of the program itself would return, where
// another one is started which then becomes it.
func checkProgram(cmd *exec.Cmd) error {
	if cmd.Err != nil {
		return cmd.Err
	}
	path := cmd.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(cmd.Dir, path)
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return &fs.PathError{Op: startOp, Path: cmd.Path, Err: err}
	}
	return nil
}

// Close ends the starting threads, which kills what it started. It must be called once.
func (s *Starter) Close() {
	close(s.quit)
	s.done.Wait()
}

// RunError is a command that ran and failed. Output is kept in fields because
// it may be long.
type RunError struct {
	Name   string
	Err    error
	Stdout []byte
	Stderr []byte
}

func (e *RunError) Error() string { return fmt.Sprintf("%s: %v", e.Name, e.Err) }

func (e *RunError) Unwrap() error { return e.Err }

// Run runs a command to its end and returns what it wrote. env is added to our
// own environment. Nothing that the command has started is left when Run returns.
// When ctx ends all of it is killed.
func (s *Starter) Run(ctx context.Context, dir string, env []string,
	name string, args ...string) (stdout, stderr []byte, err error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(cmd.Environ(), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	ran, err := s.run(ctx, cmd)
	if err != nil && ran {
		err = &RunError{Name: name, Err: err, Stdout: out.Bytes(), Stderr: errOut.Bytes()}
	}
	return out.Bytes(), errOut.Bytes(), err
}

// RunTo is Run for a command whose outputs are written to w as they come.
func (s *Starter) RunTo(ctx context.Context, dir string, w io.Writer, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, w, w
	ran, err := s.run(ctx, cmd)
	if err != nil && ran {
		err = &RunError{Name: name, Err: err}
	}
	return err
}

// run starts a command and waits for its end. ran is false for one that could not start.
func (s *Starter) run(ctx context.Context, cmd *exec.Cmd) (ran bool, err error) {
	// A process that changed its user cannot be killed, and may hold the output open.
	cmd.WaitDelay = 5 * time.Second
	child, err := s.StartTree(cmd)
	if err != nil {
		return false, fmt.Errorf("%s start: %w", cmd.Args[0], err)
	}
	stop := context.AfterFunc(ctx, child.Kill)
	err = child.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // the command itself succeeded
	}
	if !stop() && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return true, err
}
