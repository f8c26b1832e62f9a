package handle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"provium/internal/guest"
	"provium/internal/parallel"
)

// Worker is a process of the guest that makes system calls and starts commands with
// its own credentials, namespaces and descriptors. It is safe for concurrent use.
type Worker struct {
	object
	Actor

	mu      sync.Mutex
	procs   []*Process // of RunAsync
	running []*Process // of Run, while it lasts
	joined  bool
	closed  bool
}

var (
	errWorkerClosed = errors.New("worker is closed")
	errWorkerJoined = errors.New("worker was joined or closed already")
)

// SpawnWorker starts a worker in the guest of a VM.
func SpawnWorker(ctx context.Context, vm VM) (*Worker, error) {
	w := &Worker{Actor: Actor{vm: vm}}
	agent := NewActor(vm)
	var err error
	w.object, err = agent.create(ctx, "spawn_worker", "worker", func(c *guest.Client) (uint64, error) {
		return c.SpawnWorker(ctx)
	})
	if err != nil {
		return nil, err
	}
	w.Actor.worker = w
	return w, nil
}

// VM returns the machine that the worker is in.
func (w *Worker) VM() VM { return w.object.vm }

// String returns "worker(N)".
func (w *Worker) String() string {
	if w.isClosed() {
		return fmt.Sprintf("worker(%d, closed)", w.handle)
	}
	return fmt.Sprintf("worker(%d)", w.handle)
}

func (w *Worker) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// start starts a command and adds it to a list of the worker's processes.
func (w *Worker) start(ctx context.Context, op string, r guest.RunRequest, list *[]*Process) (*Process, error) {
	p, err := w.Actor.start(ctx, op, r)
	if err == nil {
		w.mu.Lock()
		*list = append(*list, p)
		w.mu.Unlock()
	}
	return p, err
}

// run runs a command to its end.
func (w *Worker) run(ctx context.Context, r guest.RunRequest) (result *guest.RunResult, err error) {
	begun := time.Now()
	r.NoStdin = len(r.Stdin) == 0
	p, err := w.start(ctx, "run", r, &w.running)
	if err != nil {
		return nil, err
	}
	defer func() { w.forget(ctx, p, err) }()
	if !r.NoStdin {
		if err = p.CloseStdin(ctx); err != nil {
			return nil, err
		}
	}
	limit := r.Timeout
	if limit > 0 {
		limit = max(limit-time.Since(begun), 1) // the wait for an agent counts
	}
	result, err = p.Wait(ctx, limit)
	return result, p.cutShort(ctx, atLimit(err, r.Timeout))
}

// forget closes a process of run, of which err is the error. A guest that has not answered
// before is not waited for.
func (w *Worker) forget(ctx context.Context, p *Process, err error) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = p.Close(context.WithoutCancel(ctx))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running = slices.DeleteFunc(w.running, func(x *Process) bool { return x == p })
	}()
	var silent *guest.SilentError
	if !errors.As(err, &silent) && ctx.Err() == nil {
		<-closed
		return
	}
	select {
	case <-closed:
	case <-time.After(forgetGrace):
	}
}

// forgetGrace is how long the end of a command may take whose caller has given up.
const forgetGrace = 200 * time.Millisecond

// started returns the processes that RunAsync started.
func (w *Worker) started() []*Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.procs)
}

// alive returns all processes that may be alive: the started ones, and the commands of
// Run that are under way.
func (w *Worker) alive() []*Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Concat(w.procs, w.running)
}

// Kill sends a signal to every process that was started by the worker and is alive.
func (w *Worker) Kill(ctx context.Context, signal int) error {
	if err := w.check("worker:kill"); err != nil {
		return err
	}
	for _, p := range w.alive() {
		var failed *guest.OpError // it has ended
		err := p.Signal(ctx, "worker:kill", signal)
		if err != nil && err != errExited && err != errProcessClosed && !errors.As(err, &failed) {
			return err
		}
	}
	return nil
}

// Join waits for all processes of RunAsync and returns the highest exit code, 0 when
// there is none. It can be called once.
func (w *Worker) Join(ctx context.Context) (int, error) {
	w.mu.Lock()
	if w.joined || w.closed {
		w.mu.Unlock()
		return 0, errWorkerJoined
	}
	w.joined = true
	w.mu.Unlock()
	if err := w.check("worker:join"); err != nil {
		return 0, err
	}
	highest := 0
	for _, p := range w.started() {
		var code int
		err := p.do(ctx, "worker:join", func(c *guest.Client, _ *Epoch) error {
			r, err := c.WaitProcess(ctx, p.handle, 0)
			if err == nil {
				code = r.ExitCode
			}
			return err
		})
		var failed *guest.OpError // it was closed or waited for meanwhile
		if err != nil && !errors.As(err, &failed) {
			return 0, err
		}
		highest = max(highest, code)
	}
	return highest, nil
}

// Close ends the worker's processes as Process.Close does, all at once, then the
// worker, which closes what it has open. It does nothing when the guest is gone. Only
// the first call has an effect.
func (w *Worker) Close(ctx context.Context) error {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if closed || w.check("worker:close") != nil {
		return nil
	}
	errs := parallel.Each(w.alive(), func(p *Process) error { return p.Close(ctx) })
	errs = append(errs, w.object.do(ctx, "worker:close", func(c *guest.Client, _ *Epoch) error {
		return c.CloseWorker(ctx, w.handle)
	}))
	return errors.Join(errs...)
}
