package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// fakeAgent is the guest's end of a link. Its methods are called from one goroutine and
// say each frame in order, so that tests decide what the client sees.
type fakeAgent struct {
	conn  net.Conn
	r     *wire.Reader
	nonce wire.Nonce
}

// patience bounds every wait of these tests; nothing takes that long.
const patience = 60 * time.Second

// sockets returns both ends of a connection.
func sockets(t *testing.T) (host, guest net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]net.Conn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "link")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		t.Cleanup(func() { ends[i].Close() })
	}
	return ends[0], ends[1]
}

func newFakeAgent(conn net.Conn) *fakeAgent {
	return &fakeAgent{conn: conn, r: wire.NewReader(conn, 2*wire.MaxPayload)}
}

// connect returns a client and its agent after the handshake.
func connect(t *testing.T, cfg Config) (*Client, *fakeAgent) {
	t.Helper()
	host, guest := sockets(t)
	return connectOver(t, cfg, host, guest)
}

// connectOver is connect over a connection that there is.
func connectOver(t *testing.T, cfg Config, host, guest net.Conn) (*Client, *fakeAgent) {
	t.Helper()
	if cfg.Watch.Probe == 0 { // this agent expects no question, however busy the host is
		cfg.Watch.Probe = time.Hour
	}
	a := newFakeAgent(guest)
	accepted := make(chan error, 1)
	go func() { accepted <- a.accept() }()
	c, err := Connect(testContext(t), host, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, a
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// hello takes the client's preamble and Hello.
func (a *fakeAgent) hello() error {
	var err error
	if a.nonce, err = a.r.Resync(); err != nil {
		return err
	}
	h, err := a.r.Next()
	if err != nil {
		return err
	}
	_, err = a.r.Payload(int(h.Length))
	return err
}

var goodHello = wire.HelloOk{ProtocolVersion: wire.ProtocolVersion, AgentVersion: "1.2", GuestOS: "linux 6.1",
	BootID: "b", AgentFeatures: []string{"f"}, Init: "minimal", AgentID: "first"}

func (a *fakeAgent) accept() error {
	if err := a.hello(); err != nil {
		return err
	}
	return a.answerHello(a.nonce, wire.Header{Type: wire.FrameHelloOk}, goodHello.Append(nil))
}

func (a *fakeAgent) answerHello(n wire.Nonce, h wire.Header, p []byte) error {
	return a.write(wire.AppendFrame(wire.AppendPreamble(nil, n), h, p))
}

func (a *fakeAgent) write(p []byte) error {
	_, err := a.conn.Write(p)
	return err
}

// frame returns the next frame of the client.
func (a *fakeAgent) frame() (wire.Header, []byte, error) {
	_ = a.conn.SetReadDeadline(time.Now().Add(patience))
	h, err := a.r.Next()
	if err != nil {
		return h, nil, err
	}
	p, err := a.r.Payload(int(h.Length))
	return h, bytes.Clone(p), err
}

// want returns the next frame of that type. Others are an error, but credit for an operation
// that was given up, which comes before or behind its cancel.
func (a *fakeAgent) want(kind wire.FrameType) (wire.Header, []byte, error) {
	h, p, err := a.frame()
	for err == nil && h.Type == wire.FrameCredit && kind == wire.FrameRequest {
		h, p, err = a.frame()
	}
	if err == nil && h.Type != kind {
		err = fmt.Errorf("frame %+v, not of type %v", h, kind)
	}
	return h, p, err
}

// cancelled returns when the client cancels an operation; it may allow more data first.
func (a *fakeAgent) cancelled() (op uint64, err error) {
	for {
		h, _, err := a.frame()
		if err != nil || h.Type == wire.FrameCancel {
			return h.Op, err
		}
		if h.Type != wire.FrameCredit {
			return 0, errors.New("neither a cancel nor credit")
		}
	}
}

// request returns the next operation that the client asks for.
func (a *fakeAgent) request() (uint64, wire.Request, error) {
	var message []byte
	for {
		h, p, err := a.want(wire.FrameRequest)
		if err != nil {
			return 0, nil, err
		}
		message = append(message, p...)
		if h.Flags&wire.FlagMore == 0 {
			r, err := wire.DecodeRequest(message)
			return h.Op, r, err
		}
	}
}

func (a *fakeAgent) result(op uint64, r wire.Result) error {
	return a.write(wire.AppendMessage(nil, wire.FrameResult, op, wire.AppendResult(nil, &r)))
}

func (a *fakeAgent) data(op uint64, stream uint16, p []byte) error {
	return a.write(wire.AppendFrame(nil, wire.Header{Type: wire.FrameData, Op: op, Stream: stream}, p))
}

// received returns the bulk data of an operation up to its end, and allows more as it
// comes.
func (a *fakeAgent) received() ([]byte, error) {
	var all []byte
	for {
		h, p, err := a.want(wire.FrameData)
		if err != nil {
			return nil, err
		}
		all = append(all, p...)
		if h.Flags&wire.FlagEnd != 0 {
			return all, nil
		}
		if len(p) > 0 {
			if err := a.write(wire.AppendCredit(nil, h.Op, h.Stream, uint32(len(p)))); err != nil {
				return nil, err
			}
		}
	}
}

// background runs the agent's part of a test beside the client's. The test fails with
// its error.
func background(t *testing.T, part func() error) (wait func()) {
	t.Helper()
	var err error
	var running sync.WaitGroup
	running.Go(func() { err = part() })
	once := sync.OnceFunc(func() {
		running.Wait()
		if err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("agent: %v", err)
		}
	})
	t.Cleanup(once)
	return once
}

// serve answers requests in a goroutine until the test ends.
func serve(t *testing.T, a *fakeAgent, answer func(wire.Request) wire.Result) {
	background(t, func() error {
		for {
			op, r, err := a.request()
			if err != nil {
				return io.EOF // closed
			}
			if err := a.result(op, answer(r)); err != nil {
				return err
			}
		}
	})
	t.Cleanup(func() { a.conn.Close() })
}
