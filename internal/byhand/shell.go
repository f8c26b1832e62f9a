package byhand

import (
	"context"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
)

// Terminal is the terminal of the host that a command in the guest appears on. It passes
// every key on as it is.
type Terminal struct {
	Keys   io.Reader
	Screen io.Writer
	// Size returns the present size.
	Size func() (rows, cols uint16)
	// Env are the variables that tell programs what the terminal can do, as TERM=xterm.
	Env []string
	// Signals of the host: SIGWINCH says that the size is another one, the others end the
	// command.
	Signals <-chan os.Signal
}

// loginShell starts the shell of the guest's root where it has one, as after a login.
const loginShell = `cd 2>/dev/null || cd /
command -v bash >/dev/null 2>&1 && exec bash -l
exec sh -l`

// Shell runs a command on a terminal, or a login shell without args, and
// returns its exit code as Exec does.
func (g *Guest) Shell(ctx context.Context, args []string, t *Terminal) (code int, err error) {
	ctx = guest.WithCall(ctx, guest.Call{Text: "shell"})
	link, _, err := g.VM.BeginOp(ctx, "shell")
	if err != nil {
		return ExitOurs, err
	}
	defer g.VM.EndOp("shell")
	r, x := guest.RunRequest{}, &running{link: link, c: &Command{}}
	if len(args) > 0 {
		r.Path, r.Args = args[0], args[1:]
	}
	x.useTerminal(&r, t)
	return x.run(ctx, r)
}

// useTerminal lets a command, or a login shell without one, appear on a terminal.
func (x *running) useTerminal(r *guest.RunRequest, t *Terminal) {
	size := t.size()
	r.Terminal, r.Env, r.NoStdin = &size, environment(t.Env), false
	if r.Path == "" {
		r.Shell = loginShell
	}
	c := *x.c
	c.Stdin, c.Stdout, c.Signals = t.Keys, t.Screen, t.Signals
	x.c, x.terminal = &c, t
}

func (t *Terminal) size() guest.TerminalSize {
	rows, cols := t.Size()
	return guest.TerminalSize{Rows: rows, Cols: cols}
}

// resized follows a change of the terminal's size. It reports whether sig says that.
func (x *running) resized(ctx context.Context, sig syscall.Signal) bool {
	if x.terminal == nil || sig != unix.SIGWINCH {
		return false
	}
	_ = x.link.ResizeProcess(ctx, x.handle, x.terminal.size()) // it may have ended
	return true
}
