package byhand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/lab"
	"provium/internal/topology"
)

// Guest is a booted guest. Close must be called.
type Guest struct {
	VM   *lab.VM
	root *lab.Lab
}

// Spec says what guest is wanted.
type Spec struct {
	Name    string // of the VM
	Profile string
	Opts    topology.BootOpts
	// Patience gets a line when the boot takes longer than a moment; nil gets none.
	Patience io.Writer
}

// patient is how long a boot may take before a line says that it is under way.
const patient = time.Second

// Boot boots a guest.
func Boot(ctx context.Context, host *lab.Host, s Spec) (*Guest, error) {
	g := &Guest{root: lab.New(host)}
	if err := g.boot(ctx, s); err != nil {
		return nil, errors.Join(append([]error{err}, g.close()...)...)
	}
	return g, nil
}

// CommandLine returns a command line that boots such a guest by itself; see qemu.Config.
func CommandLine(ctx context.Context, host *lab.Host, s Spec) (args []string, err error) {
	g := &Guest{root: lab.New(host)}
	if g.VM, err = g.root.DeclareVM(s.Name, s.Profile, &s.Opts); err == nil {
		args, err = g.VM.Command(ctx)
	}
	return args, errors.Join(err, g.Close())
}

func (g *Guest) boot(ctx context.Context, s Spec) (err error) {
	if g.VM, err = g.root.DeclareVM(s.Name, s.Profile, &s.Opts); err != nil {
		return err
	}
	if s.Patience != nil {
		say := time.AfterFunc(patient, func() {
			fmt.Fprintf(s.Patience, "provium: booting profile `%s` …\n", s.Profile)
		})
		defer say.Stop()
	}
	return g.VM.Boot(ctx, nil)
}

// Close ends the guest. Its errors are warnings: the guest has ended.
func (g *Guest) Close() error { return errors.Join(g.close()...) }

func (g *Guest) close() []error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), closeLimit,
		fmt.Errorf("closing took longer than %v", closeLimit))
	defer cancel()
	return g.root.CloseScope(ctx)
}

// closeLimit is how long the end of a guest may take.
const closeLimit = 30 * time.Second

// Interrupt is the cause of a context that a signal has ended.
type Interrupt struct{ Signal syscall.Signal }

// Error names the signal.
func (e *Interrupt) Error() string { return fmt.Sprintf("ended by %v", e.Signal) }

// Interruptible returns a context that the first signal ends, with an *Interrupt as its
// cause; SIGWINCH is dropped. stop must be called: signals that come later are left alone.
func Interruptible(ctx context.Context, signals <-chan os.Signal) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	over, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case sig := <-signals:
				if number, ok := sig.(syscall.Signal); ok && number != unix.SIGWINCH {
					cancel(&Interrupt{number})
					return
				}
			case <-over:
				return
			}
		}
	}()
	return ctx, func() {
		close(over)
		<-watched
		cancel(nil)
	}
}

// The exit codes that are not a command's own, as those of env(1) and nohup(1).
const (
	ExitOurs       = 125 // Provium has failed
	ExitNotStarted = 126 // the command cannot be executed
	ExitNotFound   = 127 // there is no such command
	exitSignalled  = 128 // and the number of the signal
)

// SignalCode returns the exit code for what a signal has ended.
func SignalCode(sig int) int { return exitSignalled + sig }
