package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/byhand"
)

// listLimit is how long a process may take to say what it has.
const listLimit = 5 * time.Second

// Find returns the processes that have guests and serve them in private directories, or in
// directories of these. Directories that others could have written are skipped; sockets that
// nobody serves are removed.
func Find(dirs []string) (runs []Run) {
	for _, dir := range dirs {
		if !isPrivate(dir) {
			continue
		}
		inside, _ := filepath.Glob(filepath.Join(dir, "*", socketName))
		for _, path := range append([]string{filepath.Join(dir, socketName)}, inside...) {
			r, err := list(path)
			if errors.Is(err, unix.ECONNREFUSED) {
				_ = os.Remove(path) // of a process that was killed; what cannot be removed stays
			}
			if err == nil {
				runs = append(runs, *r)
			}
		}
	}
	return runs
}

// isPrivate reports whether a directory is of this user, and nobody else can enter it.
func isPrivate(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

func dial(path string) (*pipe, error) {
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSocket {
		return nil, errors.Join(err, errors.New("no socket"))
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return &pipe{conn: conn}, nil
}

func list(path string) (*Run, error) {
	p, err := dial(path)
	if err != nil {
		return nil, err
	}
	defer p.conn.Close()
	if err := p.conn.SetDeadline(time.Now().Add(listLimit)); err != nil {
		return nil, err
	}
	if err := p.send(&message{List: true}); err != nil {
		return nil, err
	}
	m, err := p.receive()
	if err != nil {
		return nil, err
	}
	if m.Run == nil {
		return nil, errMalformed
	}
	m.Run.path = path
	return m.Run, nil
}

// Streams are what a command in a guest reads and writes here.
type Streams struct {
	In       io.Reader // nil for none
	Out, Err io.Writer
	Signals  <-chan os.Signal // SIGWINCH says that the terminal has another size
	Size     func() (rows, cols uint16)
}

// Enter runs a command in a guest of the process and returns its exit code as byhand.Exec and
// Shell do. ctx ends it.
func (r *Run) Enter(ctx context.Context, e *Enter, s *Streams) (code int, err error) {
	p, err := dial(r.path)
	if err != nil {
		return byhand.ExitOurs, err
	}
	defer p.conn.Close()
	defer context.AfterFunc(ctx, func() { p.conn.Close() })()
	e.NoInput = s.In == nil
	if err := p.send(&message{Enter: e}); err != nil {
		return byhand.ExitOurs, err
	}
	if s.In != nil {
		go passInput(p, s.In) // a read may last longer than the command
	}
	over := make(chan struct{})
	defer close(over)
	go passSignals(p, s, over)
	for {
		m, err := p.receive()
		switch {
		case ctx.Err() != nil:
			return byhand.ExitOurs, context.Cause(ctx)
		case err != nil:
			return byhand.ExitOurs, fmt.Errorf("the run has ended (%w)", err)
		case m.Exit != nil && m.Exit.Err != "":
			return m.Exit.Code, errors.New(m.Exit.Err)
		case m.Exit != nil:
			return m.Exit.Code, nil
		case len(m.Output) > 0:
			_, err = s.Out.Write(m.Output)
		case len(m.Errors) > 0:
			_, err = s.Err.Write(m.Errors)
		}
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EIO) {
			return byhand.SignalCode(int(unix.SIGPIPE)), nil // nobody reads it
		}
		if err != nil {
			return byhand.ExitOurs, fmt.Errorf("output: %w", err)
		}
	}
}

// passInput sends what is typed until that ends. An error of sending is one of receiving, too.
func passInput(p *pipe, in io.Reader) {
	buf := make([]byte, pieceSize)
	for {
		n, err := in.Read(buf)
		if n > 0 && p.send(&message{Input: buf[:n]}) != nil {
			return
		}
		if err != nil {
			_ = p.send(&message{Close: true})
			return
		}
	}
}

// passSignals sends signals until the command is over.
func passSignals(p *pipe, s *Streams, over <-chan struct{}) {
	for {
		select {
		case sig := <-s.Signals:
			number, _ := sig.(syscall.Signal)
			m := &message{Signal: int(number)}
			if number == unix.SIGWINCH {
				rows, cols := s.Size()
				m = &message{Size: &Size{rows, cols}}
			}
			_ = p.send(m) // else receiving fails
		case <-over:
			return
		}
	}
}
