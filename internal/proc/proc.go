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
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Starter starts children from one OS thread that lives as long as the
// Starter. The parent-death signal of Linux fires when the *thread* that
// forked ends (prctl(2), PR_SET_PDEATHSIG), and the Go runtime ends idle
// threads at will, so an ordinary exec.Cmd.Start would kill children at random.
//
// A Starter is safe for concurrent use. Closing it kills all children that it
// started and that still run.
type Starter struct {
	requests chan request
	quit     chan struct{}
	done     chan struct{}
}

type request struct {
	cmd    *exec.Cmd
	result chan error
}

// NewStarter makes a Starter and its thread.
func NewStarter() *Starter {
	s := &Starter{requests: make(chan request), quit: make(chan struct{}), done: make(chan struct{})}
	go s.serve()
	return s
}

func (s *Starter) serve() {
	// Never unlocked: the thread ends with this goroutine, and with it every
	// child that is still there.
	runtime.LockOSThread()
	defer close(s.done)
	for {
		select {
		case r := <-s.requests:
			r.result <- r.cmd.Start()
		case <-s.quit:
			return
		}
	}
}

// ErrClosed says that the Starter was closed before the call.
var ErrClosed = errors.New("proc: starter is closed")

// Start starts cmd in a process group of its own. The caller must Wait for it.
// What cmd starts may outlive it and us; see StartTree.
func (s *Starter) Start(cmd *exec.Cmd) error { return s.start(cmd, syscall.SIGKILL) }

// start starts cmd, which gets a signal when we end.
func (s *Starter) start(cmd *exec.Cmd, deathSignal syscall.Signal) error {
	attr := syscall.SysProcAttr{}
	if cmd.SysProcAttr != nil {
		attr = *cmd.SysProcAttr
	}
	attr.Pdeathsig = deathSignal
	attr.Setpgid = true
	cmd.SysProcAttr = &attr
	r := request{cmd: cmd, result: make(chan error, 1)}
	select {
	case s.requests <- r:
		return <-r.result
	case <-s.done:
		return ErrClosed
	}
}

// Close ends the starting thread, which kills what it started. It must be called once.
func (s *Starter) Close() {
	close(s.quit)
	<-s.done
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
	// A process that changed its user cannot be killed, and may hold the output open.
	cmd.WaitDelay = 5 * time.Second
	child, err := s.StartTree(cmd)
	if err != nil {
		return nil, nil, fmt.Errorf("%s start: %w", name, err)
	}
	stop := context.AfterFunc(ctx, child.Kill)
	err = child.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // the command itself succeeded
	}
	if !stop() && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		err = &RunError{Name: name, Err: err, Stdout: out.Bytes(), Stderr: errOut.Bytes()}
	}
	return out.Bytes(), errOut.Bytes(), err
}
