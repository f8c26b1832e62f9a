package workers

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/proc"
	"provium/internal/terminal"
)

// outputGrace is how long the output of a worker may stay open after its end, which
// takes a process that may not be killed.
const outputGrace = 5 * time.Second

// Command starts workers.
type Command struct {
	Program string
	Verb    string   // its hidden verb
	Env     []string // added to ours
	Starter *proc.Starter
	// Where they print; what is no terminal and a file gets it from them as it is.
	Stdout, Stderr io.Writer
}

// Worker is a process that runs test files, one after the other. Kill and the methods that return something are safe
// for concurrent use.
type Worker struct {
	// Boots are the keys of the cached boots that its files have asked for, and of which it may have templates. They
	// change only while it is not kept.
	Boots map[string]bool

	child   *proc.Child
	conn    net.Conn
	stderr  *output
	stdout  *output // nil: it has a file
	errors  io.Writer
	flush   func() error
	said    *runnerStderr // of the file
	before  time.Duration // CPU time of earlier files
	ended   chan struct{}
	endedBy error
}

// Start starts a worker.
func (c *Command) Start() (*Worker, error) {
	w := &Worker{Boots: map[string]bool{}, ended: make(chan struct{})}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("runner pipe: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "runner"), os.NewFile(uintptr(pair[1]), "dispatcher")
	defer ours.Close()
	defer theirs.Close()
	cmd := exec.Command(c.Program, c.Verb)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.ExtraFiles = []*os.File{theirs}
	var stdout io.Writer
	stdout, w.errors, w.flush = terminal.Guard(c.Stdout, c.Stderr)
	if w.conn, err = net.FileConn(ours); err != nil {
		return nil, fmt.Errorf("runner pipe: %w", err)
	}
	if f, ok := stdout.(*os.File); ok {
		cmd.Stdout = f
	} else if w.stdout, err = newOutput(&cmd.Stdout, stdout); err != nil {
		w.conn.Close()
		return nil, err
	}
	if w.stderr, err = newOutput(&cmd.Stderr, io.Discard); err == nil {
		w.child, err = c.Starter.StartTree(cmd)
	}
	for _, o := range []*output{w.stdout, w.stderr} {
		o.begin(err == nil)
	}
	if err != nil {
		w.conn.Close()
		return nil, fmt.Errorf("runner start: %w", err)
	}
	go w.wait()
	return w, nil
}

// wait waits for the end of the process, of all that it has started, and of its output.
func (w *Worker) wait() {
	w.endedBy = w.child.Wait()
	limit := time.NewTimer(outputGrace)
	defer limit.Stop()
	for _, o := range []*output{w.stdout, w.stderr} {
		o.end(limit.C)
	}
	_ = w.flush() // a terminal that is gone is no failure of the file
	close(w.ended)
}

// Conn is the connection to the process.
func (w *Worker) Conn() net.Conn { return w.conn }

// PID returns the process id of the process that has the worker and all that it starts below it.
func (w *Worker) PID() int { return w.child.PID() }

// Kill ends the process and all that it has started.
func (w *Worker) Kill() { w.child.Kill() }

// Wait waits for the end of the process, of all that it has started, and of its output, and returns how it ended.
func (w *Worker) Wait() error {
	<-w.ended
	return w.endedBy
}

// Begin says that the process runs a file from now on, by its name in messages.
func (w *Worker) Begin(file string) {
	w.said = &runnerStderr{to: w.errors, name: file}
	w.stderr.set(w.said)
}

// Finish says that the process has run a file to its end, which has used that CPU time. It returns when all that the
// process has printed by now is passed on.
func (w *Worker) Finish(cpu time.Duration) {
	w.before += cpu
	for _, o := range []*output{w.stdout, w.stderr} {
		o.settle()
	}
	w.said.close(false)
	_ = w.flush() // as in wait
}

// End closes the connection to a process that has ended. crashed means that it did not say how its file went: then its
// first words on a crash are returned, if there were some, and else "". cpu is the CPU time that the file has used.
func (w *Worker) End(crashed bool) (words string, cpu time.Duration) {
	<-w.ended
	w.conn.Close()
	return w.said.close(crashed), w.child.CPUTime() - w.before
}
