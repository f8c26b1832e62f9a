// Command provium boots Linux guests in QEMU and runs Lua tests in them.
//
// This package reads flags and environment, wires the packages together and
// decides the exit code; each verb stands in a file of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"provium/cmd/provium/internal/ksm"
	"provium/internal/run"
)

func main() { os.Exit(start()) }

func start() int {
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintf(os.Stderr, "provium: working directory: %v\n", err)
		return run.ExitError
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintf(os.Stderr, "provium: path of this program: %v\n", err)
		return run.ExitError
	}
	// A reader that goes away (head, a pager) is an error of writing, not our
	// end by signal: what runs is still closed in order. Unlike an ignored
	// signal, a caught one has its default action again in our children.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	p := &program{
		env: os.LookupEnv, dir: dir, self: self, uid: os.Geteuid(), ksmDir: ksm.Dir,
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ,
		signals: func() (<-chan os.Signal, func()) {
			ch := make(chan os.Signal, 2)
			signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
			if !signal.Ignored(syscall.SIGHUP) { // as nohup does
				signal.Notify(ch, syscall.SIGHUP)
			}
			return ch, func() { signal.Stop(ch) }
		},
		notify: func(which ...os.Signal) (<-chan os.Signal, func()) {
			ch := make(chan os.Signal, 16)
			for _, sig := range which {
				if !signal.Ignored(sig) {
					signal.Notify(ch, sig)
				}
			}
			return ch, func() { signal.Stop(ch) }
		},
		runTests: run.Run,
	}
	if os.Args[0] != keptName {
		p.again = func() (int, error) { return p.keep(os.Args[1:]) }
	}
	return p.main(context.Background(), os.Args[1:])
}
