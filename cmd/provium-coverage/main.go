// Command provium-coverage makes a report of an event stream of Provium: which parts of a
// specification have tests, with which results, what was slow, and how the pool was used.
// `provium --coverage` starts it at the end of a run.
//
// This package reads flags and environment and decides the exit code. The report is made by
// package coverage.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"

	"github.com/spf13/pflag"

	"provium/internal/event"
	"provium/internal/report/coverage"
	"provium/internal/terminal"
)

func main() {
	signals := make(chan os.Signal, 1)
	t := &tool{env: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		interrupts: func() <-chan os.Signal {
			signal.Notify(signals, os.Interrupt)
			return signals
		}}
	os.Exit(t.main(os.Args[1:]))
}

// tool is what the program takes from its process.
type tool struct {
	env                   func(string) string
	stdin, stdout, stderr *os.File
	interrupts            func() <-chan os.Signal // Ctrl-C from the call on
}

// flags are those of a command line.
type flags struct {
	from, socket string
	format       coverage.Format
	help         bool
}

const usage = `Show which parts of a specification the tests of a run cover, and what was slow.

Usage:
  provium-coverage (--from FILE | --from-socket PATH) [--format FORMAT]

      --from FILE          read the event stream that --save-events has written; - is standard input
      --from-socket PATH   read from the unix socket of --events-socket until the run ends, or Ctrl-C
      --format FORMAT      text, html or json (default text on a terminal, else html)
  -h, --help               show this help

The exit code is 0 if the report is complete, else 1.
`

// main runs one command line and returns the exit code.
func (t *tool) main(args []string) int {
	f, err := parse(args)
	if err == nil && f.help {
		_, err = io.WriteString(t.stdout, usage)
	} else if err == nil {
		err = t.report(f)
	}
	if err != nil {
		fmt.Fprintf(t.stderr, "provium-coverage: %s\n", terminal.Escape(err.Error()))
		return 1
	}
	return 0
}

func parse(args []string) (f flags, err error) {
	set := pflag.NewFlagSet("provium-coverage", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.from, "from", "", "")
	set.StringVar(&f.socket, "from-socket", "", "")
	set.BoolVarP(&f.help, "help", "h", false, "")
	format := set.String("format", "", "")
	wrong := func(format string, args ...any) (flags, error) {
		return f, fmt.Errorf(format+" (see `provium-coverage --help`)", args...)
	}
	if err := set.Parse(args); err != nil {
		return wrong("%w", err)
	}
	if f.help {
		return f, nil
	}
	switch {
	case set.NArg() > 0:
		return wrong("unexpected argument `%s`", set.Arg(0))
	case set.Changed("from") && set.Changed("from-socket"):
		return wrong("--from and --from-socket exclude each other")
	case f.from == "" && f.socket == "":
		return wrong("--from or --from-socket is missing")
	}
	if set.Changed("format") {
		if f.format, err = coverage.ParseFormat(*format); err != nil {
			return wrong("--format `%s`: %w", *format, err)
		}
	}
	return f, nil
}

// report reads a stream and writes the report of it. One of a run that was killed, or has not
// ended, is complete, with a warning. What precedes a damage is reported, too.
func (t *tool) report(f flags) error {
	stream, name, err := t.open(f)
	if err != nil {
		return err
	}
	defer stream.Close()
	var b coverage.Builder
	damage := b.Read(event.NewReader(stream))
	if damage != nil {
		damage = fmt.Errorf("%s: %w", name, damage)
	}
	switch {
	case damage == nil:
	case errors.Is(damage, event.ErrUnknownKind), errors.Is(damage, event.ErrUnknownField):
		damage = fmt.Errorf("%w (was it written by another version of Provium?)", damage)
	case b.Events() == 0 && errors.As(damage, new(*event.DecodeError)):
		damage = fmt.Errorf("%w (is it an event stream?)", damage)
	case errors.Is(damage, event.ErrTruncated):
		fmt.Fprintf(t.stderr, "provium-coverage: warning: %s\n", terminal.Escape(damage.Error()))
		damage = nil
	}
	if b.Events() == 0 && damage != nil {
		return damage
	}
	if damage != nil {
		damage = fmt.Errorf("%w; only what precedes this is reported", damage)
	}
	if f.format == "" {
		f.format = t.defaultFormat()
	}
	color := terminal.Is(t.stdout) && t.env("NO_COLOR") == "" && t.env("TERM") != "dumb"
	return errors.Join(coverage.Write(t.stdout, f.format, b.Report(), color), damage)
}

// defaultFormat is text for people: on a terminal, and at the end of a run.
func (t *tool) defaultFormat() coverage.Format {
	if terminal.Is(t.stdout) || t.env("PROVIUM_COVERAGE_TMP") != "" || t.env("PROVIUM_COVERAGE_USER_FILE") != "" {
		return coverage.FormatText
	}
	return coverage.FormatHTML
}

// open opens the stream.
func (t *tool) open(f flags) (stream io.ReadCloser, name string, err error) {
	switch {
	case f.socket != "":
		conn, err := net.Dial("unix", f.socket)
		if err != nil {
			return nil, "", err
		}
		signals := t.interrupts()
		go func() {
			<-signals
			_ = conn.(*net.UnixConn).CloseRead() // the reader gets the end
		}()
		return conn, f.socket, nil
	case f.from == "-":
		return t.stdin, "standard input", nil
	}
	file, err := os.Open(f.from)
	if err != nil {
		return nil, "", err
	}
	if info, err := file.Stat(); err == nil && info.IsDir() {
		file.Close()
		return nil, "", fmt.Errorf("%s: is a directory", f.from)
	}
	return file, f.from, nil
}
