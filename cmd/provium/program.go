package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"provium/cmd/provium/internal/live"
	"provium/internal/config"
	"provium/internal/run"
	"provium/internal/tempdir"
	"provium/internal/terminal"
)

// program is what the verbs take from the process they run in.
type program struct {
	env  func(string) (string, bool)
	dir  string // working directory
	self string // path of the running binary
	uid  int
	// ksmDir has the host's settings for the merging of equal pages; "" leaves them alone.
	ksmDir string

	stdin, stdout, stderr *os.File

	environ func() []string // os.Environ

	// signals begins to collect the signals that ask a run to end; stop ends that.
	signals func() (ch <-chan os.Signal, stop func())
	// notify begins to collect signals; stop ends that.
	notify func(...os.Signal) (ch <-chan os.Signal, stop func())
	// again runs this command line once more, below a keeper, and returns its exit
	// code. Nil is a process that has one, or needs none.
	again func() (int, error)
	// runTests is run.Run.
	runTests func(context.Context, run.Options) (int, error)

	code int // of a verb that ended without an error

	opened  *caches
	private *tempdir.Dir // nil until it is needed
}

// main runs one command line and returns the exit code.
func (p *program) main(ctx context.Context, args []string) int {
	if len(args) == 1 && args[0] == runnerVerb {
		return p.runner()
	}
	defer p.removePrivate()
	cmd := p.rootCommand()
	cmd.SetArgs(joinShuffleSeed(args))
	cmd.SetOut(p.stdout)
	cmd.SetErr(p.stderr)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(p.stderr, "provium: %s\n", terminal.Escape(err.Error())) // guests may be quoted
		if coded := (*codeError)(nil); errors.As(err, &coded) {
			return coded.code
		}
		return run.ExitError
	}
	return p.code
}

// codeError is an error with an exit code of its own.
type codeError struct {
	code int
	err  error
}

// Error returns the text of what has failed.
func (e *codeError) Error() string { return e.err.Error() }

// Unwrap returns what has failed.
func (e *codeError) Unwrap() error { return e.err }

// usageError is a command line that makes no sense.
type usageError struct {
	verb string // "" is the run itself
	err  error
}

func (e *usageError) Error() string {
	verb := ""
	if e.verb != "" {
		verb = " " + e.verb
	}
	return fmt.Sprintf("%v (see `provium%s --help`)", e.err, verb)
}

func (e *usageError) Unwrap() error { return e.err }

// usage makes a usageError of a command.
func usage(cmd *cobra.Command, format string, args ...any) error {
	e := &usageError{err: fmt.Errorf(format, args...)}
	if cmd.HasParent() {
		e.verb = cmd.CommandPath()[len(cmd.Root().Name())+1:]
	}
	return e
}

func (p *program) getenv(name string) string {
	v, _ := p.env(name)
	return v
}

// absolute resolves a path that the user gave; "" stays.
func (p *program) absolute(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(p.dir, path)
}

// tempBase returns where temporary directories go.
func (p *program) tempBase() string {
	if dir := p.getenv("TMPDIR"); dir != "" {
		return p.absolute(dir)
	}
	return "/tmp"
}

// loadConfig reads the configuration: the given file, or the nearest one above the working
// directory, or the nearest one above the first of the tests that were asked for.
func (p *program) loadConfig(path, kernel, qemu string, tests ...string) (*config.Config, error) {
	path = p.absolute(path)
	if path == "" {
		var others []string
		if len(tests) > 0 {
			others = append(others, p.directory(tests[0]))
		}
		var err error
		if path, err = config.Find(p.dir, others...); err != nil {
			return nil, err
		}
	}
	return config.Load(path, p.configEnv(kernel, qemu))
}

// directory returns the directory of a test file, or the given one. Behind the path may stand
// a line or the name of a test.
func (p *program) directory(test string) string {
	path, _, _ := strings.Cut(test, "::")
	path = p.absolute(path)
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return path
	}
	return filepath.Dir(path)
}

// configEnv is what a configuration takes from its surroundings.
func (p *program) configEnv(kernel, qemu string) config.Env {
	return config.Env{
		Home: p.getenv("HOME"), CacheHome: p.caches().home, BuildDir: p.absolute(p.getenv("PROVIUM_BUILD_DIR")),
		Kernel: p.absolute(kernel), QEMU: p.programPath(qemu),
	}
}

// programPath makes the path of a program absolute. A name is left, to be found on PATH.
func (p *program) programPath(name string) string {
	if !strings.ContainsRune(name, '/') {
		return name
	}
	return p.absolute(name)
}

// terminal returns what a person has of the process.
func (p *program) terminal() live.Terminal {
	return live.Terminal{Stdin: p.stdin, Stdout: p.stdout, Stderr: p.stderr, Dumb: p.isDumb(),
		Color: p.getenv("NO_COLOR") == "", Notify: p.notify}
}

// isDumb reports whether terminals show nothing but text.
func (p *program) isDumb() bool { term := p.getenv("TERM"); return term == "" || term == "dumb" }

// colors reports whether standard output is a terminal that shows colours.
func (p *program) colors() bool {
	return p.getenv("NO_COLOR") == "" && !p.isDumb() && terminal.Is(p.stdout)
}

// drawSeed makes a seed that is short enough to be typed.
func drawSeed() (uint64, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("seed: %w", err)
	}
	return uint64(binary.BigEndian.Uint32(b[:])), nil
}

// runnerVerb starts the runner process of one test file. It is not for users:
// the process expects its pipe.
const runnerVerb = "__runner"

func (p *program) runner() int {
	unix.CloseOnExec(run.RunnerFD) // programs that a test starts have no business there
	pipe := os.NewFile(run.RunnerFD, "pipe")
	if pipe == nil {
		fmt.Fprintln(p.stderr, "provium: runner: no pipe")
		return run.ExitError
	}
	if err := run.Runner(pipe, p.getenv("PROVIUM_TEST_FILTER")); err != nil {
		fmt.Fprintf(p.stderr, "provium: %v\n", err)
		return run.ExitError
	}
	return run.ExitOK
}

// interruptible ends the context at the first signal that asks for it.
func (p *program) interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals, stop := p.signals()
	over, joined := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(joined)
		select {
		case sig := <-signals:
			cancel(fmt.Errorf("interrupted (%v)", sig))
		case <-over:
		}
	}()
	return ctx, func() {
		close(over)
		<-joined
		stop()
		cancel(errors.New("ended"))
	}
}
