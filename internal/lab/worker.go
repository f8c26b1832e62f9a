package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"provium/internal/guest"
)

// Worker is a process of the guest that makes system calls and starts commands
// with credentials, namespaces and descriptors of its own. It is safe for
// concurrent use.
type Worker struct {
	held

	mu      sync.Mutex
	procs   []*Process // of RunAsync
	running []*Process // of Run, while it lasts
	joined  bool
	closed  bool
}

// SpawnWorker starts a worker.
func (v *VM) SpawnWorker(ctx context.Context) (*Worker, error) {
	w := &Worker{}
	var err error
	w.held, err = v.make(ctx, "spawn_worker", "worker", func(c *guest.Client) (uint64, error) { return c.SpawnWorker(ctx) })
	if err != nil {
		return nil, err
	}
	return w, nil
}

// VM is the machine it is in.
func (w *Worker) VM() *VM { return w.vm }

// Handle is the agent's number for it.
func (w *Worker) Handle() uint64 { return w.handle }

// String names it.
func (w *Worker) String() string { return fmt.Sprintf("worker(%d)", w.handle) }

func (w *Worker) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

var errWorkerClosed = errors.New("worker is closed")

func (w *Worker) call(ctx context.Context, op string, do func(*guest.Client, uint64) error) error {
	if w.isClosed() {
		return errWorkerClosed
	}
	return w.op(ctx, op, func(c *guest.Client) error { return do(c, w.handle) })
}

// start starts a command with the worker's credentials and namespaces.
func (w *Worker) start(ctx context.Context, op string, r RunRequest, list *[]*Process) (*Process, error) {
	if err := w.call(ctx, op, func(*guest.Client, uint64) error { return nil }); err != nil {
		return nil, err
	}
	p, err := w.vm.startProcess(ctx, op, r, w.handle)
	if err == nil {
		w.mu.Lock()
		*list = append(*list, p)
		w.mu.Unlock()
	}
	return p, err
}

// RunAsync starts a command with the worker's credentials and namespaces.
func (w *Worker) RunAsync(ctx context.Context, r RunRequest) (*Process, error) {
	return w.start(ctx, "run_async", r, &w.procs)
}

// Run runs a command to its end.
func (w *Worker) Run(ctx context.Context, r RunRequest) (*RunResult, error) {
	p, err := w.start(ctx, "run", r, &w.running)
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = p.Close(context.WithoutCancel(ctx))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running = slices.DeleteFunc(w.running, func(x *Process) bool { return x == p })
	}()
	if err := p.CloseStdin(ctx); err != nil {
		return nil, err
	}
	return p.Wait(ctx, r.Timeout)
}

// processes are those started by RunAsync.
func (w *Worker) processes() []*Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.procs)
}

// alive are all that may live: those and the commands of Run that are under way.
func (w *Worker) alive() []*Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Concat(w.procs, w.running)
}

// Kill sends a signal to every process that was started here and lives.
func (w *Worker) Kill(ctx context.Context, signal int) error {
	if err := w.check("worker:kill"); err != nil {
		return err
	}
	for _, p := range w.alive() {
		var failed *OpError
		if err := p.Signal(ctx, "worker:kill", signal); err != nil && err != errExited && err != errProcessClosed && !errors.As(err, &failed) {
			return err
		}
	}
	return nil
}

// Join waits for all its processes and gives the highest exit code, 0 if there
// is none. It can be done once.
func (w *Worker) Join(ctx context.Context) (int, error) {
	w.mu.Lock()
	if w.joined || w.closed {
		w.mu.Unlock()
		return 0, errors.New("worker was joined or closed already")
	}
	w.joined = true
	w.mu.Unlock()
	if err := w.check("worker:join"); err != nil {
		return 0, err
	}
	highest := 0
	for _, p := range w.processes() {
		var code int
		err := p.op(ctx, "worker:join", func(c *guest.Client) error {
			r, err := c.WaitProcess(ctx, p.handle, 0)
			if err == nil {
				code = r.ExitCode
			}
			return err
		})
		var failed *OpError // one that was closed meanwhile
		if err != nil && !errors.As(err, &failed) {
			return 0, err
		}
		highest = max(highest, code)
	}
	return highest, nil
}

// Close ends its processes, kindly first, and the worker, with what it has
// open.
func (w *Worker) Close(ctx context.Context) error {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if closed || w.check("worker:close") != nil {
		return nil
	}
	all := w.alive()
	errs := make([]error, len(all), len(all)+1)
	var closing sync.WaitGroup
	for i, p := range all { // side by side: each may need seconds
		closing.Go(func() { errs[i] = p.Close(ctx) })
	}
	closing.Wait()
	errs = append(errs, w.op(ctx, "worker:close", func(c *guest.Client) error { return c.CloseWorker(ctx, w.handle) }))
	return errors.Join(errs...)
}
