package process

import (
	"context"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// openTerminal makes a pseudo terminal of a size. user is the descriptor that a command
// gets, host our end. The other end is opened by way of ours, so that only /dev/ptmx need
// be there; it must not become the terminal of our own session.
func openTerminal(size wire.TerminalSize) (host, user int, err error) {
	const flags = unix.O_RDWR | unix.O_NOCTTY
	if host, err = sys.Open("/dev/ptmx", flags, 0); err != nil {
		host, err = sys.Open("/dev/pts/ptmx", flags, 0)
	}
	if err != nil {
		return -1, -1, noTerminal(err)
	}
	if err = unix.IoctlSetPointerInt(host, unix.TIOCSPTLCK, 0); err == nil {
		var fd uintptr
		fd, err = sys.Call(unix.SYS_IOCTL, uintptr(host), unix.TIOCGPTPEER, flags|unix.O_CLOEXEC)
		user = int(fd)
	}
	if err == nil {
		err = setSize(host, size)
	}
	if err != nil {
		sys.CloseNow(host)
		return -1, -1, noTerminal(err)
	}
	return host, user, nil
}

func noTerminal(err error) error {
	errno, _ := err.(syscall.Errno)
	e := wire.ErrnoError(uint32(errno))
	e.Text = "the guest makes no pseudo terminal (/dev/ptmx): " + e.Text
	return e
}

func setSize(fd int, size wire.TerminalSize) error {
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
}

// startOnTerminal starts a program whose terminal is new and returns our end of it twice:
// as what its input is written to, and what its output is read from.
func startOnTerminal(ctx context.Context, by Launcher, l *Launch, size wire.TerminalSize) (
	cmd *Command, in, out *os.File, err error) {
	host, user, err := openTerminal(size)
	if err != nil {
		return nil, nil, nil, err
	}
	defer sys.CloseNow(user)
	second, err := unix.FcntlInt(uintptr(host), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		sys.CloseNow(host)
		return nil, nil, nil, err
	}
	if out, _, err = sys.Pollable(host, "terminal"); err == nil {
		in, _, err = sys.Pollable(second, "terminal")
	} else {
		sys.CloseNow(second)
	}
	if err == nil {
		l.Files, l.Setsid, l.Terminal = [3]int{user, user, user}, true, true
		cmd, err = launched(ctx, by, l)
	}
	if err != nil {
		for _, f := range []*os.File{in, out} {
			if f != nil {
				f.Close()
			}
		}
	}
	return cmd, in, out, err
}

// launched starts a command whose files are there, and waits until its program is executed.
func launched(ctx context.Context, by Launcher, l *Launch) (*Command, error) {
	cmd, err := by.Launch(ctx, l)
	if err != nil {
		return nil, err
	}
	if err = cmd.begin(ctx); err != nil {
		cmd.Kill(false)
		_, _ = cmd.Wait()
		sys.CloseNow(cmd.Pidfd)
	}
	return cmd, err
}

// Resize sets the size of a process's terminal; its foreground processes get SIGWINCH.
func (t *Table) Resize(r *wire.ProcResize) error {
	p, err := t.get(r.Handle)
	if err != nil {
		return err
	}
	if p.terminal == nil {
		return &wire.Error{Text: "the process has no terminal of its own"}
	}
	raw, err := p.terminal.SyscallConn()
	if err == nil {
		e := raw.Control(func(fd uintptr) { err = setSize(int(fd), r.Size) })
		if e != nil {
			err = errHasExited // and its terminal is closed
		}
	}
	return err
}

// readAll takes what a terminal has at the moment, into spare where that is all that is
// left, and reports whether it has no other end any more.
func (s *spool) readAll(raw syscall.RawConn, spare []byte) (end bool) {
	_ = raw.Control(func(fd uintptr) {
		for {
			p, own := s.space(spare)
			n, err := sys.ReadNow(int(fd), p)
			if err != nil || n <= 0 {
				end = err != unix.EAGAIN
				return
			}
			s.add(n, own)
		}
	})
	return end
}
