package fakemachine

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"provium/internal/localvmm"
	"provium/internal/wire"
)

// Serve lets one agent after the other have a connection. Between two of them the host's
// bytes wait.
func (g *guest) Serve(ctx context.Context, conn net.Conn) {
	for held := newHeldConn(conn); g.m.awaitAgent(ctx, held); {
		if !g.serveAgent(ctx, held) {
			return
		}
	}
}

// serveAgent serves the connection with the present agent, and reports whether it is open
// for another one.
func (g *guest) serveAgent(ctx context.Context, conn net.Conn) bool {
	m := g.m
	if m.AwaitRunning(ctx) != nil {
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan struct{})
	defer close(stopped)
	_ = conn.SetReadDeadline(time.Time{}) // of the agent before
	m.mu.Lock()
	m.conn, m.stop, m.stopped = conn, cancel, stopped
	m.served++
	fault := m.agent
	id, number := m.agentID, m.agents
	m.mu.Unlock()
	a := localvmm.Agent{Hello: wire.HelloOk{AgentVersion: "fake", GuestOS: "linux 6.1.0-fake", BootID: "fake",
		Init: "minimal", AgentID: id},
		Await: m.await, Do: m.do}
	switch fault {
	case AgentSilent:
	case AgentHangsUp:
		conn.Close()
	case AgentOfVersion0:
		a.Hello.ProtocolVersion = 1000
		a.Serve(ctx, conn)
	case AgentTalksNoise:
		a.Do = func(context.Context, *localvmm.Op) (wire.Value, *wire.Error) {
			_, _ = conn.Write(make([]byte, 64)) // the link is to end
			return nil, nil
		}
		a.Serve(ctx, conn)
	default:
		a.Serve(ctx, conn)
	}
	m.mu.Lock()
	another := m.agents != number
	m.mu.Unlock()
	if another {
		return true
	}
	// The port stays connected until the host hangs up.
	for {
		_ = conn.SetReadDeadline(time.Time{}) // a closed one is not read
		if _, err := io.Copy(io.Discard, conn); !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
	}
}

// CloseAgent takes the agent away without a reset, as a new kernel does that takes the
// device over: its port closes, and its connection stays. An agent must be served.
func (m *Machine) CloseAgent() {
	m.closeAgent()
	m.PortChanged(false)
}

func (m *Machine) closeAgent() {
	m.mu.Lock()
	m.closed = true
	m.agents++
	if m.stop != nil {
		m.stop()
	}
	stopped := m.stopped
	m.mu.Unlock()
	if stopped != nil {
		<-stopped
	}
}

// OpenAgent has an agent of that identity open the port after CloseAgent. An agent other
// than the last one finds nothing of what that one held.
func (m *Machine) OpenAgent(id string) {
	m.openAgent(id)
	m.PortChanged(true)
}

// ReplaceAgent is CloseAgent and OpenAgent within a second: QEMU says only that the port is open.
func (m *Machine) ReplaceAgent(id string) {
	m.closeAgent()
	m.openAgent(id)
	m.PortChanged(true)
}

func (m *Machine) openAgent(id string) {
	m.mu.Lock()
	var old *state
	if id != m.agentID {
		old, m.guest = m.guest, newState()
	}
	m.agentID, m.closed = id, false
	if m.opened != nil {
		m.opened()
	}
	m.mu.Unlock()
	if old != nil {
		old.end()
	}
}

// AgentID returns the identity of the agent.
func (m *Machine) AgentID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agentID
}

// awaitAgent waits while no agent has the port open. It returns false when the host hangs
// up.
func (m *Machine) awaitAgent(ctx context.Context, conn *heldConn) bool {
	for {
		m.mu.Lock()
		closed := m.closed
		wait, cancel := context.WithCancel(ctx)
		m.opened = cancel
		m.mu.Unlock()
		if !closed || ctx.Err() != nil {
			cancel()
			return ctx.Err() == nil
		}
		err := conn.hold(wait)
		cancel()
		if err != nil {
			return false
		}
	}
}

// heldConn is a connection whose bytes can be kept for a later reader.
type heldConn struct {
	net.Conn
	r *bufio.Reader
}

// heldBytes is how much of what the host sends is kept.
const heldBytes = 1 << 20

func newHeldConn(conn net.Conn) *heldConn {
	return &heldConn{conn, bufio.NewReaderSize(conn, heldBytes)}
}

func (c *heldConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// hold keeps what comes until the context ends. It fails when the other side hangs up.
func (c *heldConn) hold(ctx context.Context) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.SetReadDeadline(time.Unix(1, 0))
		close(ended)
	})
	defer func() {
		if !stop() {
			<-ended
		}
		_ = c.SetReadDeadline(time.Time{})
	}()
	for ctx.Err() == nil {
		_ = c.SetReadDeadline(time.Time{})
		if ctx.Err() != nil {
			return nil
		}
		if _, err := c.r.Peek(c.r.Buffered() + 1); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return nil
}
