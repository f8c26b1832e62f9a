package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"provium/internal/byhand"
	"provium/internal/lab"
	"provium/internal/topology"
)

// maxVisitors is how many may be there at a time, firstLimit how long one may take to say what
// it wants, and lastLimit how long it may take to read the end of an output.
const (
	maxVisitors = 16
	firstLimit  = 10 * time.Second
	lastLimit   = time.Second
)

// server serves the guests of a process.
type server struct {
	host   *lab.Host
	status func() string // nil: there is nothing to say
	slots  chan struct{} // has a token for each visitor
}

// Serve lets the user visit the guests of a host by a socket in a directory that nobody else
// can enter, until stop is called.
func Serve(dir string, host *lab.Host, status func() string) (stop func(), err error) {
	path := filepath.Join(dir, socketName)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("attach: %w", err)
	}
	s := &server{host: host, status: status, slots: make(chan struct{}, maxVisitors)}
	ctx, cancel := context.WithCancelCause(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return // it is closed, or nobody can be served any more
			}
			select {
			case s.slots <- struct{}{}:
				serving.Go(func() {
					defer func() { <-s.slots }()
					defer conn.Close()
					s.serve(ctx, conn)
				})
			default:
				conn.Close()
			}
		}
	})
	return func() {
		cancel(errors.New("the run has ended"))
		l.Close() // which removes the socket
		serving.Wait()
	}, nil
}

func (s *server) serve(ctx context.Context, conn *net.UnixConn) {
	if checkPeer(conn) != nil {
		return
	}
	p := &pipe{conn: conn}
	// What is late or makes no sense gets no answer.
	_ = conn.SetReadDeadline(time.Now().Add(firstLimit))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	first, err := p.receive()
	if !stop() || err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	switch {
	case first.List:
		_ = conn.SetWriteDeadline(time.Now().Add(firstLimit))
		_ = p.send(&message{Run: s.describe()}) // else nobody waits for it
	case first.Enter != nil:
		code, err := s.enter(ctx, p, first.Enter)
		last := &exit{Code: code}
		if err != nil {
			last.Err = err.Error()
		}
		_ = conn.SetWriteDeadline(time.Now().Add(lastLimit))
		_ = p.send(&message{Exit: last}) // else the visitor has left
	}
}

func (s *server) describe() *Run {
	r := &Run{PID: os.Getpid(), File: s.host.File}
	if s.status != nil {
		r.Status = s.status()
	}
	for _, vm := range s.host.VMs() {
		cid, _ := vm.CID()
		if state := vm.State(); state == topology.Booted || state == topology.Paused {
			r.Guests = append(r.Guests, Guest{vm.Name(), vm.Profile(), string(state), cid})
		}
	}
	slices.SortFunc(r.Guests, func(a, b Guest) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.CID, b.CID))
	})
	return r
}

// enter runs a command for a visitor.
func (s *server) enter(ctx context.Context, p *pipe, e *Enter) (code int, err error) {
	vms := s.host.VMs()
	i := slices.IndexFunc(vms, func(vm *lab.VM) bool {
		cid, ok := vm.CID()
		return ok && cid == e.CID
	})
	if i < 0 {
		return byhand.ExitOurs, errors.New("the guest has ended")
	}
	if e.Terminal == nil && len(e.Args) == 0 {
		return byhand.ExitOurs, errors.New("a command without a terminal is missing")
	}
	ctx, link, end, err := vms[i].BeginVisit(ctx, "attach")
	if err != nil {
		return byhand.ExitOurs, err
	}
	defer end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A visitor who does not read must not hold up the end.
	defer context.AfterFunc(ctx, func() { _ = p.conn.SetWriteDeadline(time.Now().Add(lastLimit)) })()

	v := &visitor{p: p, signals: make(chan os.Signal, 16)}
	input, typed := io.Pipe()
	defer input.Close()
	c := &byhand.Command{Args: e.Args, InGuest: true, Stdin: input, Signals: v.signals,
		Stdout: output{p, func(m *message) *[]byte { return &m.Output }},
		Stderr: output{p, func(m *message) *[]byte { return &m.Errors }}}
	if e.NoInput {
		c.Stdin = nil
	}
	var t *byhand.Terminal
	if e.Terminal != nil {
		v.size = *e.Terminal
		t = &byhand.Terminal{Keys: input, Screen: c.Stdout, Size: v.terminalSize, Env: e.Env, Signals: v.signals}
	}
	go func() { cancel(v.listen(typed)) }() // until the connection is closed
	return byhand.Visit(ctx, link, c, t)
}

// visitor is the other end of a command.
type visitor struct {
	p       *pipe
	signals chan os.Signal

	mu   sync.Mutex
	size Size
}

func (v *visitor) terminalSize() (rows, cols uint16) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.size.Rows, v.size.Cols
}

// errLeft ends the command of a visitor who has left.
var errLeft = errors.New("the visitor has left")

// listen takes what the visitor sends until it leaves.
func (v *visitor) listen(typed *io.PipeWriter) error {
	defer typed.Close()
	for {
		m, err := v.p.receive()
		if err != nil {
			return errLeft
		}
		switch {
		case len(m.Input) > 0:
			_, _ = typed.Write(m.Input) // else nobody reads any more
		case m.Close:
			typed.Close()
		case m.Size != nil:
			v.mu.Lock()
			v.size = *m.Size
			v.mu.Unlock()
			v.signal(syscall.SIGWINCH)
		case m.Signal > 0:
			v.signal(syscall.Signal(m.Signal))
		}
	}
}

// signal passes a signal on, as the kernel does: it may be dropped where many wait.
func (v *visitor) signal(sig os.Signal) {
	select {
	case v.signals <- sig:
	default:
	}
}
