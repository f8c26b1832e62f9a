package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"provium/cmd/provium/internal/flagtext"
	"provium/internal/byhand"
	"provium/internal/terminal"
)

const execHelp = `Boots a guest, or takes it from the boot cache, and runs CMD in it as if it ran
here: with standard input, output and error, signals, the working directory and
the environment, but not what that says of this machine (PATH, HOME and so on).
A program that is named by a path and is not in the guest is copied there, with
its libraries. No provium.toml is needed.

The exit code is that of CMD; 128 and the number of the signal that ended it; 127
if the guest has no such command, 126 if it cannot be executed; 125 if Provium
fails.`

const execExample = `  provium exec -- uname -a
  go test -exec "provium exec --" ./...
  CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="provium exec --" cargo test
  provium exec --kernel arch/x86/boot/bzImage --push tests -- tests/run.sh`

func (p *program) execCommand() *cobra.Command {
	var f guestFlags
	var profile string
	var push, share []string
	what := newGroup("What the guest gets")
	what.flags.StringVar(&profile, "profile", "",
		"boot the profile `P` (default the first of provium.toml, or automatic)")
	what.flags.Var(list(&push, "path", p.parseReadable), "push",
		"copy the directory or file `DIR` to the same path in the guest; may be repeated")
	what.flags.Var(list(&share, "path", p.parseReadableDir), "rw",
		"copy the directory `DIR`, and bring back what changed when CMD has ended; may be repeated")
	cmd := &cobra.Command{
		Use:     "exec [FLAGS] -- CMD [ARGS...]",
		Short:   "Run a command of this machine in a guest",
		Long:    execHelp,
		Example: execExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" {
				return ours(usage(cmd, "expected a command to run, as in `provium exec -- uname -a`"))
			}
			var err error
			p.code, err = p.exec(cmd.Context(), &f, profile, &byhand.Command{Args: args, Push: push, ReadWrite: share})
			return coded(p.code, err)
		},
	}
	finish(cmd, what, f.withDebugger())
	_ = cmd.RegisterFlagCompletionFunc("profile", p.completeProfiles(&f.config)) // the flag is there
	// Behind CMD, flags are CMD's.
	cmd.Flags().SetInterspersed(false)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return ours(flagError(cmd, err)) })
	return cmd
}

// ours marks an error as one of Provium, not of a command that it runs.
func ours(err error) error { return coded(byhand.ExitOurs, err) }

// coded has an error end the program with a code.
func coded(code int, err error) error {
	if err == nil {
		return nil
	}
	return &codeError{code, err}
}

// execSignals go to the command.
var execSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1,
	syscall.SIGUSR2}

func (p *program) exec(ctx context.Context, f *guestFlags, profile string, c *byhand.Command) (int, error) {
	if !c.InGuest {
		c.Dir, c.Env = p.dir, p.environ()
	}
	c.Stdin, c.Stdout, c.Stderr = p.stdin, p.stdout, p.stderr
	c.Note = func(format string, args ...any) {
		fmt.Fprintf(p.stderr, "provium: note: %s\n", terminal.Escape(fmt.Sprintf(format, args...)))
	}
	if isNull(p.stdin) {
		c.Stdin = nil
	}
	return p.withGuest(ctx, f, profile, execSignals, func(ctx context.Context, g *byhand.Guest,
		signals <-chan os.Signal) (int, error) {
		c.Signals = signals
		return g.Exec(ctx, c)
	})
}

// isNull reports whether there is nothing to read from a file.
func isNull(f *os.File) bool {
	if f == nil {
		return true
	}
	info, err := f.Stat()
	if err != nil {
		return true // it is closed
	}
	null, err := os.Stat(os.DevNull)
	return err == nil && os.SameFile(info, null)
}

// parseReadable makes a path absolute that has to be there.
func (p *program) parseReadable(text string) (string, error) {
	path, err := flagtext.Path(text)
	if err != nil {
		return "", err
	}
	path = filepath.Clean(p.absolute(path))
	if path == "/" {
		return "", errors.New("not the whole file system")
	}
	file, err := os.Open(path)
	if err != nil {
		return "", plainPathError(err)
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.IsDir() {
		if _, err := file.Readdirnames(1); err != nil && !errors.Is(err, io.EOF) {
			return "", plainPathError(err)
		}
	}
	return path, nil
}

func (p *program) parseReadableDir(text string) (string, error) {
	path, err := p.parseReadable(text)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return "", errors.New("not a directory")
	}
	if err := syscall.Access(path, 2); err != nil {
		return "", fmt.Errorf("changes could not come back: %w", err)
	}
	return path, nil
}

func plainPathError(err error) error {
	var failed *os.PathError
	if errors.As(err, &failed) {
		return errors.New(strings.ToLower(failed.Err.Error()))
	}
	return err
}
