package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

func TestHandshake(t *testing.T) {
	c, _ := connect(t, Config{})
	want := Info{AgentVersion: "1.2", GuestOS: "linux 6.1", BootID: "b", Features: []string{"f"}, Init: "minimal",
		AgentID: "first"}
	if got := c.Info(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if c.Err() != nil {
		t.Error(c.Err())
	}
}

func TestHandshakeSkipsWhatIsNotItsAnswer(t *testing.T) {
	host, guest := sockets(t)
	a := newFakeAgent(guest)
	background(t, func() error {
		if err := a.hello(); err != nil {
			return err
		}
		if err := a.write([]byte("firmware noise \x00\x01")); err != nil {
			return err
		}
		// The answer to an earlier session, a preamble without a frame behind it,
		// and a frame that no handshake has.
		if err := a.answerHello(wire.Nonce{1}, wire.Header{Type: wire.FrameHelloOk},
			goodHello.Append(nil)); err != nil {
			return err
		}
		if err := a.write(append(wire.AppendPreamble(nil, a.nonce), make([]byte, wire.HeaderSize)...)); err != nil {
			return err
		}
		if err := a.answerHello(a.nonce, wire.Header{Type: wire.FrameResult, Op: 1}, []byte("x")); err != nil {
			return err
		}
		return a.answerHello(a.nonce, wire.Header{Type: wire.FrameHelloOk}, goodHello.Append(nil))
	})
	c, err := Connect(testContext(t), host, Config{})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestHandshakeIsRepeated(t *testing.T) {
	host, guest := sockets(t)
	a := newFakeAgent(guest)
	clock := make(chan time.Time)
	var once sync.Once
	background(t, func() error {
		if err := a.hello(); err != nil {
			return err
		}
		first := a.nonce
		clock <- time.Now()
		if err := a.accept(); err != nil { // finds the preamble behind the padding
			return err
		}
		if a.nonce != first {
			t.Error("the repetition has another nonce")
		}
		// The answer to the first Hello was only late: it comes between operations.
		return a.answerHello(a.nonce, wire.Header{Type: wire.FrameHelloOk}, goodHello.Append(nil))
	})
	c, err := Connect(testContext(t), host, Config{After: func(d time.Duration) <-chan time.Time {
		var wait <-chan time.Time
		once.Do(func() { wait = clock })
		return wait
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	serve(t, a, func(wire.Request) wire.Result { return wire.Result{} })
	if err := c.Ping(testContext(t)); err != nil {
		t.Error(err)
	}
}

func TestHandshakesThatFail(t *testing.T) {
	other := goodHello
	other.ProtocolVersion++
	for name, tc := range map[string]struct {
		header wire.Header
		answer []byte
		want   string
		is     error
	}{
		"version": {wire.Header{Type: wire.FrameHelloOk}, other.Append(nil),
			"host speaks version 2, agent speaks version 3", ErrVersion},
		"refusal": {wire.Header{Type: wire.FrameHelloErr}, wire.HelloErr{ProtocolVersion: wire.ProtocolVersion,
			Text: "busy"}.Append(nil), "agent refused the session: busy", nil},
		"refusal version": {wire.Header{Type: wire.FrameHelloErr}, wire.HelloErr{ProtocolVersion: 9,
			Text: "busy"}.Append(nil), "agent speaks version 9", ErrVersion},
		"malformed":         {wire.Header{Type: wire.FrameHelloOk}, []byte("\xc1"), "malformed", wire.ErrMalformed},
		"malformed refusal": {wire.Header{Type: wire.FrameHelloErr}, []byte("\xc1"), "malformed", wire.ErrMalformed},
	} {
		host, guest := sockets(t)
		a := newFakeAgent(guest)
		done := background(t, func() error {
			if err := a.hello(); err != nil {
				return err
			}
			return a.answerHello(a.nonce, tc.header, tc.answer)
		})
		_, err := Connect(testContext(t), host, Config{})
		if err == nil || !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("%s: %v", name, err)
		}
		done()
	}
}

func TestHandshakeEndsWithTheConnectionAndWithTheContext(t *testing.T) {
	for _, sent := range []string{"", "\xffPROVIUM", string(wire.AppendPreamble(nil, wire.Nonce{})), // of our nonce
		string(wire.AppendPreamble(nil, wire.Nonce{})) + string(wire.AppendFrame(nil,
			wire.Header{Type: wire.FrameHelloOk},
			[]byte("cut"))[:17])} {
		host, guest := sockets(t)
		a := newFakeAgent(guest)
		done := background(t, func() error {
			if err := a.hello(); err != nil {
				return err
			}
			if err := a.write([]byte(sent)); err != nil {
				return err
			}
			return a.conn.Close()
		})
		_, err := Connect(testContext(t), host, Config{Nonce: bytes.NewReader(make([]byte, 16))})
		if !errors.Is(err, ErrLinkLost) {
			t.Errorf("after %q: %v", sent, err)
		}
		done()
	}

	host, _ := sockets(t)
	cause := errors.New("gave up")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
	if _, err := Connect(ctx, host, Config{}); !errors.Is(err, cause) {
		t.Error(err)
	}

	host, _ = sockets(t)
	if _, err := Connect(ctx, host,
		Config{Nonce: failingReader{io.ErrUnexpectedEOF}}); err == nil || !strings.Contains(err.Error(), "nonce") {
		t.Error(err)
	}
}

// TestTheEndOfTheLink has operations in every way of waiting when the link ends.
func TestTheEndOfTheLink(t *testing.T) {
	panicked := errors.New("guest panicked")
	for name, end := range map[string]func(c *Client, a *fakeAgent) (want error){
		"closed by the guest": func(_ *Client, a *fakeAgent) error { a.conn.Close(); return panicked },
		"failed": func(c *Client, _ *fakeAgent) error {
			c.Fail(io.ErrClosedPipe)
			return io.ErrClosedPipe
		},
		"failed without a reason": func(c *Client, _ *fakeAgent) error {
			c.Fail(nil)
			c.Fail(io.ErrClosedPipe) // only the first reason counts
			return ErrLinkLost
		},
		"closed": func(c *Client, _ *fakeAgent) error { c.Close(); return ErrClosed },
		"ended by the agent": func(_ *Client, a *fakeAgent) error {
			p := wire.HelloErr{ProtocolVersion: wire.ProtocolVersion, Text: "another host"}.Append(nil)
			if err := a.write(wire.AppendFrame(nil, wire.Header{Type: wire.FrameHelloErr}, p)); err != nil {
				return err
			}
			return panicked
		},
	} {
		lost := make(chan error, 1)
		c, a := connect(t, Config{Lost: func(err error) error { lost <- err; return panicked }})
		ctx := testContext(t)
		background(t, func() error { // lets the stream open, and holds the rest
			for {
				op, r, err := a.request()
				if err != nil {
					return io.EOF
				}
				if _, ok := r.(*wire.TailFile); ok {
					if err := a.data(op, wire.StreamData, nil); err != nil {
						return err
					}
				}
			}
		})
		s, err := c.TailFile(ctx, "/f", 0, false, 0)
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 3)
		go func() { errs <- c.Ping(ctx) }()
		go func() { _, err := s.Next(ctx); errs <- err }()
		go func() { _, err := c.FDTail(ctx, 0, 3); errs <- err }()
		for pending := 0; pending < 3; { // until all are under way
			c.mu.Lock()
			pending = len(c.ops)
			c.mu.Unlock()
			time.Sleep(time.Millisecond)
		}
		want := end(c, a)
		for range 3 {
			if err := <-errs; !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		<-c.Done()
		if !errors.Is(c.Err(), want) {
			t.Errorf("%s: %v", name, c.Err())
		}
		if err := c.Ping(ctx); !errors.Is(err, want) {
			t.Errorf("%s: an operation after that: %v", name, err)
		}
		if want == panicked {
			if err := <-lost; err == nil {
				t.Errorf("%s: Lost was not told", name)
			}
		}
		s.Close()
		a.conn.Close()
	}
}

// TestHostileFrames has the agent break the protocol while an operation is under way.
func TestHostileFrames(t *testing.T) {
	const limit = 1 << 20 // on results
	for name, tc := range map[string]struct {
		send func(op uint64) []byte
		want string
	}{
		"no frame": {func(uint64) []byte { return []byte(strings.Repeat("garbage ", 3)) },
			"the guest's agent port was written to by another program (link out of step"},
		"padding":    {func(uint64) []byte { return make([]byte, 16) }, "padding"},
		"a preamble": {func(uint64) []byte { return wire.AppendPreamble(nil, wire.Nonce{9}) }, "preamble"},
		"half a preamble": {func(uint64) []byte { return wire.AppendPreamble(nil, wire.Nonce{9})[:16] },
			"link lost"},
		"half a frame": {func(op uint64) []byte {
			return wire.AppendFrame(nil, wire.Header{Type: wire.FrameResult, Op: op}, []byte("x"))[:16]
		}, "link lost"},
		"half of data": {func(op uint64) []byte {
			return wire.AppendFrame(nil, wire.Header{Type: wire.FrameData, Op: op}, []byte("xy"))[:17]
		}, "link lost"},
		"a request": {func(op uint64) []byte {
			return wire.AppendFrame(nil, wire.Header{Type: wire.FrameRequest, Op: op}, nil)
		}, "frame type 4 from the agent"},
		"a bad result": {func(op uint64) []byte {
			return wire.AppendFrame(nil, wire.Header{Type: wire.FrameResult, Op: op}, []byte{0xc1})
		}, "malformed"},
		"a bad end": {func(uint64) []byte {
			return wire.AppendFrame(nil, wire.Header{Type: wire.FrameHelloErr},
				[]byte{0xc1})
		}, "malformed"},
		"no credit":   {func(op uint64) []byte { return wire.AppendCredit(nil, op, 0, 0) }, "credit for 0 bytes"},
		"much credit": {func(op uint64) []byte { return wire.AppendCredit(nil, op, 0, wire.Window+1) }, "credit for"},
		"an output file": {func(op uint64) []byte {
			return wire.AppendFrame(nil, wire.Header{Type: wire.FrameData, Op: op}, []byte("unasked"))
		}, "agent sent more than 0 bytes"},
		"more than a window": {func(op uint64) (b []byte) {
			for range wire.Window/wire.MaxPayload + 1 {
				b = wire.AppendFrame(b, wire.Header{Type: wire.FrameData, Op: op, Stream: wire.StreamStdout},
					make([]byte,
						wire.MaxPayload))
			}
			return b
		}, "agent sent more than"},
		"an endless result": {func(op uint64) []byte {
			frame := wire.AppendFrame(nil, wire.Header{Type: wire.FrameResult, Flags: wire.FlagMore, Op: op},
				make([]byte,
					wire.MaxPayload))
			return bytes.Repeat(frame, limit/wire.MaxPayload+1)
		}, fmt.Sprintf("result above %d bytes", limit)},
	} {
		c, a := connect(t, Config{})
		if c.maxResult != wire.MaxResult {
			t.Errorf("results may have %d bytes", c.maxResult)
		}
		c.maxResult = limit
		background(t, func() error {
			op, _, err := a.request()
			if err != nil {
				return err
			}
			_ = a.write(tc.send(op)) // the client may have closed before it is through
			return a.conn.Close()
		})
		if err := c.Ping(testContext(t)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}

// TestFramesOfOperationsThatAreOver are no reason to end the link.
func TestFramesOfOperationsThatAreOver(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	background(t, func() error {
		for range 2 {
			op, _, err := a.request()
			if err != nil {
				return err
			}
			if err := a.write(wire.AppendExpect(nil, op, 0, 1<<40)); err != nil { // more than may come: ignored
				return err
			}
			if err := a.result(op, wire.Result{}); err != nil {
				return err
			}
			if err := a.data(op, 0, []byte("late")); err != nil {
				return err
			}
			if err := a.write(wire.AppendCredit(nil, op, 0, 1)); err != nil {
				return err
			}
		}
		return nil
	})
	for range 2 {
		if err := c.Ping(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCancelWaitsForTheGuestToStop(t *testing.T) {
	c, a := connect(t, Config{})
	cause := errors.New("test over")
	ctx, cancel := context.WithCancelCause(testContext(t))
	stopped := false
	done := background(t, func() error {
		op, _, err := a.request()
		if err != nil {
			return err
		}
		cancel(cause)
		if of, err := a.cancelled(); err != nil || of != op {
			return errors.Join(err, errors.New("no cancel"))
		}
		// Output that is still on the way is thrown away, and allowed again.
		for range wire.Window / 2 / wire.MaxPayload {
			if err := a.data(op, wire.StreamStdout, make([]byte, wire.MaxPayload)); err != nil {
				return err
			}
		}
		if _, _, err := a.want(wire.FrameCredit); err != nil {
			return err
		}
		stopped = true
		return a.result(op, wire.Result{Err: wire.ErrnoError(125)})
	})
	if _, err := c.Run(ctx, RunRequest{Shell: "sleep 9"}); !errors.Is(err, cause) {
		t.Error(err)
	}
	done()
	if !stopped {
		t.Error("the caller got its error before the guest had stopped")
	}
	if err := c.Ping(ctx); !errors.Is(err, cause) {
		t.Errorf("an operation that begins after the end of its context: %v", err)
	}
	if c.Err() != nil {
		t.Error(c.Err())
	}
}

func TestCancelOfAGuestThatDoesNotStop(t *testing.T) {
	late := make(chan time.Time)
	c, a := connect(t, Config{Resend: time.Hour, CancelGrace: time.Minute,
		After: func(d time.Duration) <-chan time.Time {
			if d == time.Minute {
				return late
			}
			return nil
		}})
	ctx, cancel := context.WithCancel(testContext(t))
	background(t, func() error {
		if _, _, err := a.request(); err != nil {
			return err
		}
		cancel()
		if _, err := a.cancelled(); err != nil {
			return err
		}
		late <- time.Now()
		return nil
	})
	if err := c.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if c.IsIdle() {
		t.Error("the guest may still be at it")
	}
}

func TestCancelOfAStuckLink(t *testing.T) {
	c, a := connect(t, Config{})
	ctx, cancel := context.WithCancel(testContext(t))
	background(t, func() error {
		if _, _, err := a.request(); err != nil {
			return err
		}
		cancel()
		if _, err := a.cancelled(); err != nil {
			return err
		}
		return a.conn.Close()
	})
	if err := c.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestInterruptedWrites has an operation end in the middle of a frame that the guest
// does not take. What is left of the frame goes first when the guest reads again.
func TestInterruptedWrites(t *testing.T) {
	c, a := connect(t, Config{CancelGrace: 10 * time.Millisecond})
	for len(c.sending) == 0 { // until a frame is stuck: nobody reads
		ctx, cancel := context.WithTimeout(testContext(t), 10*time.Millisecond)
		_, err := c.Run(ctx, RunRequest{Shell: strings.Repeat("x", wire.MaxPayload/2)})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	// A writer that waits for its turn ends with its context, too.
	ctx, cancel := context.WithTimeout(testContext(t), 10*time.Millisecond)
	if err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	cancel()

	background(t, func() error {
		for {
			h, p, err := a.frame()
			if err != nil {
				return err
			}
			if h.Type == wire.FrameRequest {
				r, err := wire.DecodeRequest(p)
				if err != nil {
					return err
				}
				if err := a.result(h.Op, wire.Result{}); err != nil {
					return err
				}
				if _, ok := r.(*wire.Stat); ok {
					return nil
				}
			}
		}
	})
	if _, err := c.Stat(testContext(t), "/", true); err == nil || c.Err() != nil { // answered with nothing
		t.Error(err, c.Err())
	}
}

func TestWriterWaitingAtTheEndOfTheLink(t *testing.T) {
	c, _ := connect(t, Config{})
	c.sending <- struct{}{}
	time.AfterFunc(10*time.Millisecond, func() { c.Fail(io.ErrClosedPipe) })
	if err := c.Ping(testContext(t)); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

func TestWriteAfterTheGuestHungUp(t *testing.T) {
	// Lost takes its time, so that the writer sees the broken connection first.
	told := make(chan struct{})
	c, a := connect(t, Config{Lost: func(err error) error { <-told; return io.ErrNoProgress }})
	a.conn.Close()
	result := make(chan error)
	go func() { result <- c.Ping(testContext(t)) }()
	close(told)
	if err := <-result; !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

func TestStream(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	more := make(chan struct{})
	done := background(t, func() error {
		op, r, err := a.request()
		if err != nil {
			return err
		}
		if r.(*wire.ProcOutput).Handle != 4 {
			t.Errorf("%+v", r)
		}
		for _, p := range []string{"", "one "} {
			if err := a.data(op, wire.StreamData, []byte(p)); err != nil {
				return err
			}
		}
		<-more
		for range 3 { // a credit comes once a quarter of the window was read
			if err := a.data(op, wire.StreamData, make([]byte, wire.MaxPayload)); err != nil {
				return err
			}
		}
		if _, _, err := a.want(wire.FrameCredit); err != nil {
			return err
		}
		return a.result(op, wire.Result{})
	})
	s, err := c.ProcessOutput(ctx, 4, false)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := s.Next(ctx); string(p) != "one " || err != nil {
		t.Errorf("%q, %v", p, err)
	}
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if p, err := s.Next(short); p != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", p, err)
	}
	if s.Ended() {
		t.Error("the stream has ended before its end")
	}
	close(more)
	total := 0
	for {
		p, err := s.Next(ctx)
		total += len(p)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if total != 3*wire.MaxPayload || !s.Ended() {
		t.Errorf("%d bytes, ended %v", total, s.Ended())
	}
	done()
	s.Close()
}

func TestStreamThatTheGuestEnds(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	opened := make(chan struct{})
	done := background(t, func() error {
		op, _, err := a.request()
		if err != nil {
			return err
		}
		if err := a.data(op, wire.StreamData, nil); err != nil {
			return err
		}
		<-opened
		return a.result(op, wire.Result{Err: wire.ErrnoError(5)})
	})
	s, err := c.TailFile(ctx, "/f", -3, true, 0)
	close(opened)
	if err != nil {
		t.Fatal(err)
	}
	var failed *OpError
	if _, err := s.Next(ctx); !errors.As(err, &failed) || failed.Path != "/f" {
		t.Error(err)
	}
	done()
}

func TestStreamsAreStoppedInTheGuest(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	done := background(t, func() error {
		for range 2 { // one that is open, one that does not open
			op, r, err := a.request()
			if err != nil {
				return err
			}
			if _, ok := r.(*wire.TailFile); ok {
				if err := a.data(op, wire.StreamData, []byte("unread")); err != nil {
					return err
				}
			}
			if _, err := a.cancelled(); err != nil {
				return err
			}
			if err := a.result(op, wire.Result{Err: wire.ErrnoError(125)}); err != nil {
				return err
			}
		}
		return nil
	})
	s, err := c.TailFile(ctx, "/f", 0, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := c.FDTail(short, 0, 3); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	done()
}

func TestManyOperationsAtOnce(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	serve(t, a, func(r wire.Request) wire.Result {
		return wire.Result{Value: &wire.FileValue{Data: []byte(r.(*wire.ReadFile).Path)}}
	})
	var working sync.WaitGroup
	for i := range 20 {
		working.Go(func() {
			path := strings.Repeat("p", i+1)
			for range 50 {
				if p, err := c.ReadFile(ctx, path); err != nil || string(p) != path {
					t.Errorf("%q, %v", p, err)
					return
				}
			}
		})
	}
	working.Wait()
}

// brokenConn is a connection whose end is the error that a test wants.
type brokenConn struct {
	net.Conn
	end error
}

func (c *brokenConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		err = fmt.Errorf("read unix /run/agent: %w", c.end)
	}
	return n, err
}

// TestLinkEndsInWords ends a connection in every way that a system has: no operation fails in the words of Go.
func TestLinkEndsInWords(t *testing.T) {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, os.ErrDeadlineExceeded,
		unix.ECONNRESET, unix.EPIPE} {
		host, guest := net.Pipe()
		c, a := connectOver(t, Config{}, &brokenConn{host, end}, guest)
		background(t, func() error {
			_, _, err := a.request()
			a.conn.Close()
			return err
		})
		if _, err := c.Stat(testContext(t), "/x", true); err == nil || err.Error() != "stat: agent link lost" {
			t.Errorf("%v: %v", end, err)
		}
	}
}
