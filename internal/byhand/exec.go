package byhand

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
)

// Command is a command of the host that runs in a guest.
type Command struct {
	Args      []string // the program and its arguments
	Env       []string // of the host, as os.Environ returns it; see environment
	Dir       string   // working directory on the host, absolute; in the guest it is the same
	Push      []string // what the guest gets under the same path: directories and files
	ReadWrite []string // directories of which changes come back, too
	// InGuest says that it is a command of the guest: nothing of the host has to do with it.
	InGuest bool

	Stdin          io.Reader // nil for none
	Stdout, Stderr io.Writer
	// Signals of the host go to the command.
	Signals <-chan os.Signal
	// Note gets a line about what is not as the user may expect.
	Note func(format string, args ...any)
}

// Exec runs a command and returns its exit code; for one that a signal has ended, that of
// SignalCode. The error is of what Provium does; it is an *Interrupt if a signal came before
// the command ran. Changes in directories of ReadWrite come back however the command ends,
// unless the guest ends.
func (g *Guest) Exec(ctx context.Context, c *Command) (code int, err error) {
	ctx = guest.WithCall(ctx, guest.Call{Text: "exec " + c.Args[0]})
	link, _, err := g.VM.BeginOp(ctx, "exec")
	if err != nil {
		return ExitOurs, err
	}
	defer g.VM.EndOp("exec")
	r, shares, err := g.prepare(ctx, link, c)
	if err != nil {
		return ExitOurs, err
	}
	code, err = (&running{link: link, c: c}).run(ctx, r)
	if failed := bringBack(ctx, link, shares, c); failed != nil {
		if err == nil {
			code = ExitOurs
		}
		err = errors.Join(err, failed)
	}
	return code, err
}

// Visit runs a command of the guest, on a terminal unless that is nil, where a test works in
// the guest at the same time. At the end the command and its descendants are killed. The result
// is that of Exec, or of Shell.
func Visit(ctx context.Context, link *guest.Client, c *Command, t *Terminal) (code int, err error) {
	r := guest.RunRequest{NoStdin: c.Stdin == nil}
	x := &running{link: link, c: c, isVisit: true}
	if len(c.Args) > 0 {
		r.Path, r.Args = c.Args[0], c.Args[1:]
	}
	if t != nil {
		x.useTerminal(&r, t)
	}
	return x.run(ctx, r)
}

// prepare copies what the command needs into the guest and returns the request for it. A
// signal ends it.
func (g *Guest) prepare(ctx context.Context, link *guest.Client, c *Command) (
	r guest.RunRequest, shares []*share, err error) {
	r = guest.RunRequest{Path: c.Args[0], Args: c.Args[1:], Env: environment(c.Env), NoStdin: c.Stdin == nil}
	if c.InGuest {
		return r, nil, nil
	}
	ctx, stop := Interruptible(ctx, c.Signals)
	defer stop()
	// What is pushed later must not be taken for what the guest has.
	p, err := findProgram(ctx, link, c)
	if err != nil {
		return r, nil, err
	}
	r.Path = p.path
	// Where the guest has no such directory and makes none, the command starts in its root.
	r.Cwd = c.Dir
	if err := link.Mkdir(ctx, c.Dir, true, guest.Perm{}); err != nil {
		if link.Err() != nil || ctx.Err() != nil {
			return r, nil, err
		}
		r.Cwd = "/"
		c.Note("the guest has no directory %s: the command runs in /", c.Dir)
	}
	if libraryPath := p.libraryPath(); libraryPath != "" {
		r.Env["LD_LIBRARY_PATH"] = libraryPath
	}
	for _, path := range append(p.files(c), c.Push...) {
		if err := g.push(ctx, path); err != nil {
			return r, nil, fmt.Errorf("copy %s: %w", path, err)
		}
	}
	// The last, since a later write would look like a change of the guest.
	for _, path := range c.ReadWrite {
		s, err := g.share(ctx, link, path)
		if err != nil {
			return r, nil, fmt.Errorf("--rw %s: %w", path, err)
		}
		shares = append(shares, s)
	}
	if len(shares) > 0 {
		err = letClockPass(ctx, link)
	}
	return r, shares, err
}

// bringBack brings the changes of all shares back. A signal ends it.
func bringBack(ctx context.Context, link *guest.Client, shares []*share, c *Command) error {
	ctx, stop := Interruptible(ctx, c.Signals)
	defer stop()
	var errs []error
	for _, s := range shares {
		if err := s.bringBack(ctx, link, c.Note); err != nil {
			errs = append(errs, fmt.Errorf("--rw %s: not all changes have come back: %w", s.dir, err))
		}
	}
	return errors.Join(errs...)
}

// push copies a file or a directory of the host to the same path in the guest.
func (g *Guest) push(ctx context.Context, path string) error {
	if err := g.VM.Mkdir(ctx, filepath.Dir(path), true, guest.Perm{}); err != nil {
		return err
	}
	return g.VM.PushFile(ctx, path, path, guest.Perm{})
}

// running is a command in the guest.
type running struct {
	link   *guest.Client
	c      *Command
	handle uint64
	// terminal is what the command appears on; nil for one with pipes.
	terminal *Terminal
	isVisit  bool // the guest goes on: nothing of the command may stay there
}

// maxRefused is how many signals a command may take without ending before it is killed.
const maxRefused = 3

// run runs the command to its end.
func (x *running) run(ctx context.Context, r guest.RunRequest) (code int, err error) {
	p, err := x.link.StartProcess(ctx, r, 0)
	if x.handle = p.Handle; x.isVisit && x.handle != 0 {
		defer x.clear(ctx)
	}
	if err != nil {
		return x.notStarted(ctx, r, err)
	}
	var outputs sync.WaitGroup
	errs := make([]error, 2)
	for i, w := range []io.Writer{x.c.Stdout, x.c.Stderr} {
		if r.Terminal != nil && i == 1 {
			continue
		}
		outputs.Go(func() { errs[i] = x.copyOutput(ctx, w, i == 1) })
	}
	feeding, stopFeeding := context.WithCancel(ctx)
	defer stopFeeding()
	if !r.NoStdin {
		go x.feed(feeding) // a read of ours may last longer than the command
	}
	over, passing := make(chan struct{}), sync.WaitGroup{}
	passing.Go(func() { x.passSignals(ctx, over) })
	result, err := x.link.AwaitProcess(ctx, p.Handle)
	close(over)
	passing.Wait()
	outputs.Wait()
	if err = errors.Join(append(errs, err)...); err != nil {
		return ExitOurs, err
	}
	if result.Status == guest.Signalled {
		return SignalCode(result.Signal), nil
	}
	return result.ExitCode, nil
}

// clearLimit is how long the end of a command may take.
const clearLimit = 5 * time.Second

// clear ends what is left of the command, as a terminal that is closed does, but surely.
func (x *running) clear(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearLimit)
	defer cancel()
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGKILL} {
		_ = x.link.SignalProcess(ctx, x.handle, int(sig)) // it may have ended
	}
	_ = x.link.CloseProcess(ctx, x.handle) // a guest that has ended has nothing
}

// notStarted says why a command could not be executed.
func (x *running) notStarted(ctx context.Context, r guest.RunRequest, err error) (int, error) {
	var failed *guest.OpError
	if !errors.As(err, &failed) || ctx.Err() != nil {
		return ExitOurs, err
	}
	name := cmp.Or(r.Path, "/bin/sh")
	if strings.HasPrefix(failed.Text, "cwd ") || strings.HasPrefix(failed.Text, "user ") {
		return ExitNotStarted, fmt.Errorf("%s: %s", name, failed.Text)
	}
	switch syscall.Errno(failed.Errno) {
	case unix.ENOENT:
		return ExitNotFound, fmt.Errorf("%s: %s", name, x.missing(ctx, name))
	case unix.EACCES, unix.ENOEXEC, unix.EPERM, unix.EISDIR, unix.ELIBBAD:
		return ExitNotStarted, fmt.Errorf("%s: %s", name, failed.Text)
	}
	return ExitOurs, err
}

// copyOutput copies an output of the command as it comes. Where it cannot be written, the
// command gets SIGPIPE, and the rest is dropped. That nobody reads it is no error.
func (x *running) copyOutput(ctx context.Context, to io.Writer, stderr bool) error {
	s, err := x.link.ProcessOutput(ctx, x.handle, stderr)
	if err != nil {
		return err
	}
	defer s.Close()
	var failed error
	for {
		p, err := s.Next(ctx)
		switch {
		case err == io.EOF && (failed == nil || errors.Is(failed, unix.EPIPE) || errors.Is(failed, unix.EIO)):
			return nil
		case err == io.EOF:
			return fmt.Errorf("output: %w", failed)
		case err != nil:
			return err
		case failed != nil:
			continue
		}
		if _, failed = to.Write(p); failed != nil {
			_ = x.link.SignalProcess(ctx, x.handle, int(unix.SIGPIPE)) // it may have ended
		}
	}
}

// feed writes our standard input to that of the command.
func (x *running) feed(ctx context.Context) {
	buf := make([]byte, 64<<10)
	for {
		n, err := x.c.Stdin.Read(buf)
		if ctx.Err() != nil {
			return
		}
		if n > 0 {
			if _, err := x.link.WriteProcess(ctx, x.handle, buf[:n]); err != nil {
				return // it does not read any more
			}
		}
		if err != nil {
			_ = x.link.CloseProcessStdin(ctx, x.handle)
			return
		}
	}
}

// passSignals passes signals of the host on to the command, until it is over.
func (x *running) passSignals(ctx context.Context, over <-chan struct{}) {
	asked := 0
	for {
		select {
		case sig := <-x.c.Signals:
			number, _ := sig.(syscall.Signal)
			if x.resized(ctx, number) {
				continue
			}
			switch number {
			case unix.SIGINT, unix.SIGTERM, unix.SIGHUP:
				if asked++; asked > maxRefused {
					number = unix.SIGKILL
				}
			}
			_ = x.link.SignalProcess(ctx, x.handle, int(number)) // it may have ended
		case <-over:
			return
		case <-ctx.Done():
			return
		}
	}
}

// clockStep is above the step of the clock by which guests date their files.
const clockStep = 12 * time.Millisecond

// letClockPass waits until a file that is written from now on has a later date than those
// that were pushed.
func letClockPass(ctx context.Context, link *guest.Client) error { return link.Sleep(ctx, clockStep) }
