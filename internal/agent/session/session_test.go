package session_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"provium/internal/agent"
	"provium/internal/agent/agenttest"
	"provium/internal/guest"
	"provium/internal/wire"
)

// TestLateAgent has the host repeat its Hello several times before the agent
// reads the first one.
func TestLateAgent(t *testing.T) {
	host, far := agenttest.SocketPair(t)
	a := agent.New(agent.Config{})
	ticks := make(chan time.Time, 3)
	for range cap(ticks) {
		ticks <- time.Time{}
	}
	connected := make(chan error, 1)
	var c *guest.Client
	go func() {
		var err error
		c, err = guest.Connect(t.Context(), host,
			guest.Config{After: func(time.Duration) <-chan time.Time { return ticks }})
		connected <- err
	}()
	// The first copy, and the beginning of the next, are in the socket.
	for len(ticks) == cap(ticks) {
		time.Sleep(time.Millisecond)
	}
	served := make(chan error, 1)
	go func() { served <- a.Serve(far) }()
	if err := <-connected; err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if err := c.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	<-served
	far.Close()
	a.Wait()
}

// TestNextSessionAmidFrames has a host vanish in the middle of a frame and
// another one take over the same stream, as a port does whose guest saw
// nothing of it.
func TestNextSessionAmidFrames(t *testing.T) {
	host, far := agenttest.SocketPair(t)
	a := agent.New(agent.Config{})
	served := make(chan error, 1)
	go func() { served <- a.Serve(far) }()
	first := wire.AppendFrame(wire.AppendPreamble(nil, wire.Nonce{1}), wire.Header{Type: wire.FrameHello},
		wire.Hello{ProtocolVersion: wire.ProtocolVersion}.Append(nil))
	first = wire.AppendMessage(first, wire.FrameRequest, 5, wire.AppendRequest(nil, &wire.Sleep{NS: 1 << 60}))
	first = wire.AppendFrame(first, wire.Header{Type: wire.FrameData, Op: 5}, make([]byte, wire.ChunkSize))
	if _, err := host.Write(first[:len(first)-wire.ChunkSize+1000]); err != nil {
		t.Fatal(err)
	}
	ticks := make(chan time.Time, 1)
	ticks <- time.Time{}
	c, err := guest.Connect(t.Context(), host,
		guest.Config{After: func(time.Duration) <-chan time.Time { return ticks }})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	c.Close()
	<-served
	far.Close()
	a.Wait() // the first session's sleep has been stopped
}

func TestVersionMismatch(t *testing.T) {
	t.Run("agent refuses", func(t *testing.T) {
		host, far := agenttest.SocketPair(t)
		a := agent.New(agent.Config{})
		served := make(chan error, 1)
		go func() { served <- a.Serve(far) }()
		hello := wire.AppendFrame(wire.AppendPreamble(nil, wire.Nonce{1}), wire.Header{Type: wire.FrameHello},
			wire.Hello{ProtocolVersion: 99}.Append(nil))
		if _, err := host.Write(hello); err != nil {
			t.Fatal(err)
		}
		r := wire.NewReader(host, 0)
		if _, err := r.Resync(); err != nil {
			t.Fatal(err)
		}
		h, err := r.Next()
		if err != nil || h.Type != wire.FrameHelloErr {
			t.Fatal(h, err)
		}
		p, err := r.Payload(int(h.Length))
		if err != nil {
			t.Fatal(err)
		}
		m, err := wire.DecodeHelloErr(p)
		if err != nil || m.ProtocolVersion != wire.ProtocolVersion ||
			m.Text != "host speaks protocol version 99, agent speaks version 2" {
			t.Error(m, err)
		}
		host.Close()
		<-served
	})
	t.Run("host refuses", func(t *testing.T) {
		_, err := answer(t, func(n wire.Nonce) []byte {
			return wire.AppendFrame(wire.AppendPreamble(nil, n), wire.Header{Type: wire.FrameHelloErr},
				wire.HelloErr{ProtocolVersion: 7, Text: "x"}.Append(nil))
		})
		if !errors.Is(err, guest.ErrVersion) ||
			!strings.Contains(err.Error(), "host speaks version 2, agent speaks version 7") {
			t.Error(err)
		}
	})
}

// answer connects a Client to something that answers its Hello with fn's bytes.
func answer(t *testing.T, fn func(wire.Nonce) []byte) (net.Conn, error) {
	host, far := agenttest.SocketPair(t)
	t.Cleanup(func() { far.Close() })
	go func() {
		n, err := wire.NewReader(far, 0).Resync()
		if err == nil {
			_, _ = far.Write(fn(n))
		}
	}()
	c, err := guest.Connect(t.Context(), host, guest.Config{})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return far, err
}

// TestHostileAgent has the agent break the rules after the handshake: the
// client must end the link, not crash or hang.
func TestHostileAgent(t *testing.T) {
	for name, evil := range map[string]func(op uint64) []byte{
		"noise": func(uint64) []byte { return []byte(strings.Repeat("\xff", 64)) },
		"huge": func(op uint64) []byte {
			return wire.AppendFrame(nil, wire.Header{Type: wire.FrameCredit, Op: op}, []byte("abcd"))
		},
		"request": func(op uint64) []byte {
			return wire.AppendFrame(nil, wire.Header{Type: wire.FrameRequest, Op: op}, nil)
		},
		"no result": func(op uint64) []byte {
			return wire.AppendFrame(nil, wire.Header{Type: wire.FrameResult, Op: op}, []byte{1})
		},
		"too much": func(op uint64) []byte {
			var b []byte
			for range 2*wire.Window/wire.ChunkSize + 1 {
				b = wire.AppendFrame(b, wire.Header{Type: wire.FrameData, Op: op}, make([]byte, wire.ChunkSize))
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			host, far := agenttest.SocketPair(t)
			defer far.Close()
			go func() {
				r := wire.NewReader(far, 0)
				n, err := r.Resync()
				if err != nil {
					return
				}
				if h, err := r.Next(); err != nil || r.ReadInto(make([]byte, h.Length)) != nil {
					return
				}
				_, _ = far.Write(wire.AppendFrame(wire.AppendPreamble(nil, n), wire.Header{Type: wire.FrameHelloOk},
					wire.HelloOk{ProtocolVersion: wire.ProtocolVersion}.Append(nil)))
				h, err := r.Next()
				if err != nil {
					return
				}
				_, _ = far.Write(evil(h.Op))
			}()
			c, err := guest.Connect(t.Context(), host, guest.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.Ping(t.Context()); !errors.Is(err, guest.ErrLinkLost) {
				t.Error(err)
			}
			<-c.Done()
		})
	}
}

// TestMalformedRequest has a host break the rules: the agent says so.
func TestMalformedRequest(t *testing.T) {
	host, far := agenttest.SocketPair(t)
	a := agent.New(agent.Config{})
	served := make(chan error, 1)
	go func() { served <- a.Serve(far) }()
	b := wire.AppendFrame(wire.AppendPreamble(nil, wire.Nonce{1}), wire.Header{Type: wire.FrameHello},
		wire.Hello{ProtocolVersion: wire.ProtocolVersion}.Append(nil))
	b = wire.AppendMessage(b, wire.FrameRequest, 1, []byte("\x81\xa2op\xa3fly"))
	if _, err := host.Write(b); err != nil {
		t.Fatal(err)
	}
	r := wire.NewReader(host, 0)
	if _, err := r.Resync(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []wire.FrameType{wire.FrameHelloOk, wire.FrameHelloErr} {
		h, err := r.Next()
		if err != nil || h.Type != want {
			t.Fatal(h, err)
		}
		if _, err := r.Payload(int(h.Length)); err != nil {
			t.Fatal(err)
		}
	}
	host.Close()
	if err := <-served; err != io.EOF {
		t.Error(err)
	}
}
