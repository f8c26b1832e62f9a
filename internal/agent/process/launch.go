package process

import (
	"cmp"
	"context"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// Launch is a command to start.
type Launch struct {
	Path       string // looked for in PATH of Env when it has no slash
	Argv, Env  []string
	Dir        string              // "" is that of the launcher
	User       string              // for errors
	Credential *syscall.Credential // nil for that of the launcher
	Setsid     bool                // it leads a session of its own
	// Terminal has its first descriptor become the terminal of its session.
	Terminal bool
	// KillSession also ends what init would adopt of it.
	KillSession bool
	// AtOnce says that its program loads without waiting for a device.
	AtOnce bool
	// Files are the first three descriptors. 0 as the first stands for /dev/null.
	Files [3]int
}

// Launcher starts commands: the executor of the VM or of a worker.
type Launcher interface {
	// Root returns the agent's path to what the launcher has at "/", "" where that
	// is the same.
	Root() (string, error)
	// Launch starts a command.
	Launch(ctx context.Context, l *Launch) (*Command, error)
}

// launch returns the Launch of a request, without its files.
func (t *Table) launch(r *wire.Run, by Launcher) (*Launch, error) {
	l := &Launch{Dir: cmp.Or(r.Cwd, t.defaults.Dir), User: cmp.Or(r.User, t.defaults.User),
		Setsid: r.Setsid, KillSession: r.KillSession}
	root, err := by.Root()
	if err != nil {
		return nil, err
	}
	var user *account
	if l.User != "" {
		if user, err = lookUpAccount(root, l.User); err != nil {
			return nil, err
		}
		l.Credential = user.credential()
	}
	l.Env = environment(r, user, t.defaults.Env)
	if l.Path, l.Argv = "/bin/sh", []string{"/bin/sh", "-c", r.Shell}; len(r.Args) > 0 {
		l.Path, l.Argv = r.Args[0], r.Args
	}
	if root == "" {
		t.resident.choose(l)
	}
	return l, nil
}

// failure returns the error of a command that did not start, as its report has it.
func (l *Launch) failure(kind uint32, errno unix.Errno) error {
	e := wire.ErrnoError(uint32(errno))
	switch kind {
	case reportCwd:
		e.Text = "cwd " + l.Dir + ": " + e.Text
	case reportUser:
		e.Text = "user " + l.User + ": " + e.Text
	}
	return e
}

// Failure returns the error of a command that its launcher could not start: what
// did not work, as a report says it, and the errno.
func (l *Launch) Failure(kind, errno uint32) error { return l.failure(kind, unix.Errno(errno)) }

// NewCommand returns the command that was started as child. pipe is the reading end
// of its report, -1 for none. kept says that the child is a keeper.
func (s *Starter) NewCommand(l *Launch, child *Child, pipe int, kept bool) *Command {
	c := &Command{Child: child, pid: child.PID, kept: kept, table: table(s.Proc)}
	if pipe >= 0 {
		c.report = &report{launch: l, waiters: s.Waiters, fd: pipe}
	}
	return c
}
