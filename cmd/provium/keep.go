package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"provium/internal/proc"
	"provium/internal/run"
	"provium/internal/terminal"
)

// keptName is the name under which a process finds that it runs below a keeper.
const keptName = "provium-kept"

// keep runs a command line of ours below a keeper, with which all ends that Lua code
// starts. Commands that run Lua code in their own process do so; a run of tests has
// a keeper for each file.
func (p *program) keep(args []string) (code int, err error) {
	starter := proc.NewStarter()
	defer starter.Close()
	cmd := exec.Command(p.self, args...)
	cmd.Args[0] = keptName
	cmd.Dir = p.dir
	cmd.Stdin = os.Stdin
	var flush func() error
	cmd.Stdout, cmd.Stderr, flush = terminal.Guard(p.stdout, p.stderr)
	signals, stop := p.signals()
	defer stop()
	child, err := starter.StartTree(cmd)
	if err != nil {
		return run.ExitError, fmt.Errorf("start: %w", err)
	}
	over, joined := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(joined)
		for {
			select {
			case <-signals:
				child.Interrupt()
			case <-over:
				return
			}
		}
	}()
	err = child.Wait()
	_ = flush() // the exit code says more than a terminal that is gone
	close(over)
	<-joined
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return run.ExitError, fmt.Errorf("ended: %w", err)
	}
	return run.ExitOK, nil
}
