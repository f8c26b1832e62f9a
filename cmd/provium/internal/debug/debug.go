// Package debug runs the recorded guest of a failed test again, alone or under gdb.
//
// It reads no flags of its own. Start with Run.
package debug

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"provium/internal/proc"
	"provium/internal/recording/rerun"
	"provium/internal/tempdir"
	"provium/internal/terminal"
)

// Help is the text of the command.
const Help = `Run the guest of a failed test again, from its recording, under gdb.

DIR is the folder of a failure, which the line "artifacts: DIR" below it names, of a run
with --record. The guest does what it did then. gdb begins at the kernel's panic, or where
the operation that has failed began, and goes back from there with reverse-continue and
reverse-stepi. Words behind -- are for gdb.`

// Options say what to run.
type Options struct {
	Dir, VM, At, QEMU string
	Replay            bool     // without gdb
	List              bool     // nothing is run, the moments are listed
	GDB               []string // further words for gdb

	TempBase       string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Look           func(program string) (path string, err error)
}

// Run runs the guest again.
func Run(ctx context.Context, o Options) error {
	r, err := rerun.Open(o.Dir, o.VM)
	if err != nil {
		return err
	}
	if o.List {
		_, err := fmt.Fprintln(o.Stdout, terminal.Escape(r.List()))
		return err
	}
	at := o.At
	if o.Replay && at == "" {
		at = rerun.AtEnd
	}
	to, err := r.Find(at)
	if err != nil {
		return errors.New(terminal.Escape(err.Error()))
	}
	gdb := ""
	if !o.Replay {
		if gdb, err = o.Look("gdb"); err != nil {
			return fmt.Errorf("gdb is needed (Debian has it in the package gdb; --replay needs none): %w", err)
		}
	}
	temp, err := tempdir.New(o.TempBase)
	if err != nil {
		return err
	}
	defer temp.Remove()
	starter := proc.NewStarter()
	defer starter.Close()
	run := rerun.Options{Dir: temp.Path(), QEMU: o.QEMU, Starter: starter,
		Image: func(ctx context.Context, path string, size int64) error {
			program, err := o.Look("qemu-img")
			if err == nil {
				_, _, err = starter.Run(ctx, "/", nil, program, "create", "-q", "-f", "qcow2", path, fmt.Sprint(size))
			}
			return err
		}}
	if o.Replay {
		run.Console = terminal.NewWriter(o.Stdout)
	}
	began := time.Now()
	fmt.Fprintf(o.Stderr, "provium: debug: vm `%s` runs to %s\n", terminal.Escape(r.VM), terminal.Escape(to.Text))
	s, err := r.Start(ctx, run, !o.Replay)
	if err != nil {
		return err
	}
	defer s.Close()
	if o.Replay || to.Function == "" {
		if err := s.RunTo(ctx, to); err != nil {
			return err
		}
	}
	if o.Replay {
		fmt.Fprintf(o.Stderr, "provium: debug: it stands at instruction %d of %d, after %v\n", to.At, r.End,
			time.Since(began).Round(time.Millisecond))
		return nil
	}
	return debugger(ctx, s, gdb, to, o)
}

// endDelay is how long gdb may take to end when it is asked to.
const endDelay = 5 * time.Second

// debugger runs gdb until the person leaves it.
func debugger(ctx context.Context, s *rerun.Session, gdb string, to rerun.Moment, o Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd, notes, err := s.Debugger(ctx, gdb, to, o.GDB)
	if err != nil {
		return err
	}
	if notes != "" {
		fmt.Fprintf(o.Stderr, "provium: debug: %s\n", terminal.Escape(strings.TrimSpace(notes)))
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = o.Stdin, o.Stdout, o.Stderr
	// Ctrl-C is gdb's.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt)
	defer signal.Stop(signals)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // so that it leaves the terminal as it was
	cmd.WaitDelay = endDelay
	over := make(chan struct{})
	go func() {
		defer close(over)
		cancel(s.Watch(ctx))
	}()
	err = cmd.Run()
	cancel(nil)
	<-over
	if still := (*rerun.StandstillError)(nil); errors.As(context.Cause(ctx), &still) {
		return still
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("gdb ended with %v", exit.ProcessState)
	}
	return err
}

// Mention says where the recordings of a failure are, before its test runs again. It says nothing of a failure without.
func Mention(stderr io.Writer, isRecorded bool, dir string) {
	if isRecorded {
		fmt.Fprintf(stderr, "provium: replay: the test runs once more, and its guests are recorded anew; "+
			"`provium debug %s` runs those again that were recorded when it failed\n", dir)
	}
}
