package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"provium/internal/wire"
)

// quick is a Watch for tests that wait for its limits.
func quick() Watch {
	return Watch{Limit: 100 * time.Millisecond, Probe: 8 * time.Millisecond, Grace: 40 * time.Millisecond,
		Confirm: 20 * time.Millisecond}
}

// TestVigil has a time pass in which a guest says nothing.
func TestVigil(t *testing.T) {
	w := &vigil{watch: Watch{}.withDefaults()}
	step, now := w.watch.step(), time.Unix(1000, 0)
	pass := func(d time.Duration, state string) {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(step)
			w.advance(now, state, nil)
		}
	}
	want := func(silent time.Duration, dead bool) {
		t.Helper()
		if got := w.silence(instant{}).all; got != silent || w.isDead() != dead {
			t.Errorf("silent for %v, dead %v, want %v, %v", got, w.isDead(), silent, dead)
		}
	}
	w.start(now)
	pass(30*time.Second, "")
	want(30*time.Second, false)
	if got := w.silence(instant{all: 20 * time.Second, fair: 20 * time.Second}).all; got != 10*time.Second {
		t.Errorf("silent for %v since an operation began", got)
	}
	pass(time.Second, "paused")
	want(0, false)
	w.doubt, w.asked, w.askedAt = &doubt{"vm:run"}, true, w.clock
	pass(4*time.Second, "")
	want(4*time.Second, false)
	pass(time.Second, "suspended") // the time to answer begins anew
	pass(4*time.Second, "")
	want(4*time.Second, false)
	w.asked, w.askedAt = true, w.clock
	pass(5*time.Second, "")
	want(9*time.Second, true)
	now = now.Add(time.Hour) // the host stood still
	w.advance(now, "", nil)
	want(9*time.Second+step, true)
	w.heard.Add(1)
	pass(step, "")
	want(0, false)
	if w.doubt != nil {
		t.Error("still in doubt about a guest that was heard")
	}
}

// silentAgent takes requests and answers none, until answer is called for all that came.
type silentAgent struct {
	*fakeAgent
	cancelled atomic.Int32
	pings     atomic.Int32
	answer    chan struct{}
}

func silence(t *testing.T, a *fakeAgent) *silentAgent {
	s := &silentAgent{fakeAgent: a, answer: make(chan struct{})}
	frames := make(chan wire.Header, 100)
	background(t, func() error {
		defer close(frames)
		for {
			h, p, err := a.frame()
			if err != nil {
				return nil // the host has hung up
			}
			if h.Type == wire.FrameCancel {
				s.cancelled.Add(1)
				continue
			}
			if h.Type != wire.FrameRequest {
				continue
			}
			if r, err := wire.DecodeRequest(p); err == nil && r.Op() == "ping" {
				s.pings.Add(1)
			}
			frames <- h
		}
	})
	background(t, func() error {
		<-s.answer
		for h := range frames {
			if err := a.result(h.Op, wire.Result{}); err != nil {
				return nil
			}
		}
		return nil
	})
	t.Cleanup(func() {
		a.conn.Close()
		select {
		case <-s.answer:
		default:
			close(s.answer)
		}
	})
	return s
}

// deadly returns w with guests that are dead for a reason.
func (w Watch) deadly(reasons chan<- string) Watch {
	w.Dead = func(silent Silence, call string) error {
		reasons <- call
		return fmt.Errorf("no sign of life (in %s)", call)
	}
	return w
}

// TestSilentGuest has an operation without a time limit end with its guest.
func TestSilentGuest(t *testing.T) {
	reasons := make(chan string, 1)
	c, a := connect(t, Config{Watch: quick().deadly(reasons)})
	s := silence(t, a)
	ctx := WithCall(testContext(t), Call{Text: "vm:stat at a.test.lua:3"})
	_, err := c.Stat(ctx, "/x", true)
	if err == nil || !strings.Contains(err.Error(), "no sign of life (in vm:stat at a.test.lua:3)") {
		t.Error(err)
	}
	if got := <-reasons; got != "vm:stat at a.test.lua:3" || s.pings.Load() != 1 {
		t.Errorf("%q, after %d probes", got, s.pings.Load())
	}
}

// pacedConn is the connection to a deterministic guest that passes a sync point while it is asked for them.
type pacedConn struct {
	net.Conn
	points atomic.Uint64
	more   atomic.Bool
}

func (*pacedConn) Adjust(int, int) {}
func (*pacedConn) Began(string)    {}

func (p *pacedConn) Passed() uint64 {
	if p.more.Load() {
		return p.points.Add(1)
	}
	return p.points.Load()
}

// TestNoSyncPoint has a deterministic guest count as dead that passes no sync point any more, and not before.
func TestNoSyncPoint(t *testing.T) {
	reasons := make(chan string, 1)
	host, far := sockets(t)
	conn := &pacedConn{Conn: host}
	conn.more.Store(true)
	c, a := connectOver(t, Config{Watch: quick().deadly(reasons)}, conn, far)
	s := silence(t, a)
	time.AfterFunc(3*quick().Limit, func() { conn.more.Store(false) })
	ctx := WithCall(testContext(t), Call{Text: "vm:run at a.test.lua:3"})
	_, err := c.Run(ctx, RunRequest{Shell: "x", Timeout: time.Millisecond}) // by the guest's clock
	if err == nil || !strings.Contains(err.Error(), "no sign of life (in vm:run at a.test.lua:3)") {
		t.Error(err)
	}
	if conn.more.Load() || s.pings.Load() > 0 {
		t.Errorf("dead while it passes sync points %t, after %d probes", conn.more.Load(), s.pings.Load())
	}
	if <-reasons; c.Err() == nil {
		t.Error("the link is up")
	}
}

// TestLimitOfACall replaces the limit on silence for one operation: it ends before the
// guest counts as dead.
func TestLimitOfACall(t *testing.T) {
	reasons := make(chan string, 1)
	w := quick()
	w.Limit, w.Grace = time.Hour, time.Hour
	c, a := connect(t, Config{Watch: w.deadly(reasons)})
	s := silence(t, a)
	ctx := WithCall(testContext(t), Call{Limit: 30 * time.Millisecond})
	_, err := c.ReadFile(ctx, "/x")
	var silent *SilentError
	if !errors.As(err, &silent) || silent.Timeout || silent.Limit != 30*time.Millisecond {
		t.Error(err)
	}
	if c.Err() != nil || c.IsIdle() {
		t.Error("the link is to last, with an operation that the guest has not ended")
	}
	if c.SilentFor() == 0 {
		t.Error("nothing was asked")
	}
	close(s.answer) // and the guest is heard again
	if err := c.AwaitIdle(testContext(t)); err != nil {
		t.Error(err)
	}
	if err := c.Ping(testContext(t)); err != nil {
		t.Error(err)
	}
	if s.cancelled.Load() != 1 {
		t.Errorf("%d operations were cancelled", s.cancelled.Load())
	}
}

// TestTimeLimits has the host keep the limits of operations that the guest should keep.
func TestTimeLimits(t *testing.T) {
	for name, do := range map[string]func(context.Context, *Client) error{
		"run": func(ctx context.Context, c *Client) error {
			_, err := c.Run(ctx, RunRequest{Shell: "x", Timeout: 10 * time.Millisecond})
			return err
		},
		"proc_wait": func(ctx context.Context, c *Client) error {
			_, err := c.WaitProcess(ctx, 1, 10*time.Millisecond)
			return err
		},
		"syscall_await": func(ctx context.Context, c *Client) error {
			_, err := c.AwaitSyscall(ctx, 1, nil, 10*time.Millisecond)
			return err
		},
	} {
		reasons := make(chan string, 1)
		c, a := connect(t, Config{CancelGrace: time.Hour, Watch: quick().deadly(reasons)})
		silence(t, a)
		err := do(WithCall(testContext(t), Call{Text: name}), c)
		if err == nil || err.Error() != name+": timed out after 10ms, and the guest has not confirmed the end" {
			t.Errorf("%s: %v", name, err)
		}
		if got := <-reasons; got != name { // the guest stays silent
			t.Errorf("dead in %q", got)
		}
		<-c.Done()
	}
}

// TestStoppedGuestsLive ends an operation at its limit in a guest that cannot answer, which
// is no reason for the guest to die.
func TestStoppedGuestsLive(t *testing.T) {
	looks := make(chan struct{}, 1000)
	w := quick()
	w.Limit = 20 * time.Millisecond
	w.State = func(context.Context) string {
		looks <- struct{}{}
		return "suspended"
	}
	c, a := connect(t, Config{Watch: w})
	s := silence(t, a)
	_, err := c.Run(testContext(t), RunRequest{Shell: "x", Timeout: 10 * time.Millisecond})
	if err == nil || !strings.HasSuffix(err.Error(), "the guest has not confirmed the end (it is suspended)") {
		t.Error(err)
	}
	for range 100 { // of one a millisecond: longer than any limit
		<-looks
	}
	if c.Err() != nil || s.pings.Load() != 0 {
		t.Errorf("%v, after %d probes", c.Err(), s.pings.Load())
	}
}

// TestAbandonedInSilence has a guest count as dead that does not confirm the end of an
// operation, which its caller does not wait for.
func TestAbandonedInSilence(t *testing.T) {
	reasons := make(chan string, 1)
	w := quick()
	w.Limit = time.Hour
	c, a := connect(t, Config{CancelGrace: time.Millisecond, Watch: w.deadly(reasons)})
	silence(t, a)
	cause := errors.New("the test has ended")
	ctx, cancel := context.WithCancelCause(WithCall(testContext(t), Call{Text: "vm:run"}))
	time.AfterFunc(5*time.Millisecond, func() { cancel(cause) })
	if _, err := c.Run(ctx, RunRequest{Shell: "x"}); !errors.Is(err, cause) {
		t.Error(err)
	}
	if got := <-reasons; got != "vm:run" {
		t.Error(got)
	}
}

// TestAnswersUnderWay has an operation go on whose guest has begun to answer at its limit.
func TestAnswersUnderWay(t *testing.T) {
	c, a := connect(t, Config{Watch: quick()})
	background(t, func() error {
		op, _, err := a.request()
		if err != nil {
			return err
		}
		if err := a.data(op, wire.StreamStdout, []byte("out")); err != nil {
			return err
		}
		time.Sleep(60 * time.Millisecond)
		return a.result(op, wire.Result{Value: &wire.RunValue{Status: wire.TimedOut}})
	})
	r, err := c.Run(testContext(t), RunRequest{Shell: "x", Timeout: 10 * time.Millisecond})
	if err != nil || r.Status != TimedOut || string(r.Stdout) != "out" {
		t.Errorf("%+v, %v", r, err)
	}
}

// busyHost returns how long a guest has waited for a CPU that gets one for a share of the time from now on.
func busyHost(share float64) func() time.Duration {
	began := time.Now()
	return func() time.Duration { return time.Duration((1 - share) * float64(time.Since(began))) }
}

// within fails the test unless a time since then has passed, which is looked at in steps.
func within(t *testing.T, began time.Time, least, step time.Duration) {
	t.Helper()
	if d := time.Since(began); d < least || d > least+step {
		t.Errorf("after %v, want %v", d, least)
	}
}

// TestHinderedGuest has a guest that a busy host leaves no CPU confirm the end of an operation late, and not at all.
func TestHinderedGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Watch{Limit: time.Hour, Grace: time.Hour, Hindered: busyHost(0)}
		host, guest := net.Pipe()
		c, a := connectOver(t, Config{Watch: w}, host, guest)
		background(t, func() error {
			op, _, err := a.request()
			if err != nil {
				return err
			}
			time.Sleep(3700 * time.Millisecond) // until shortly before the cap
			return a.result(op, wire.Result{Value: &wire.RunValue{Status: wire.TimedOut}})
		})
		r, err := c.Run(testContext(t), RunRequest{Shell: "x", Timeout: time.Second})
		if err != nil || r.Status != TimedOut {
			t.Errorf("%+v, %v", r, err)
		}
		// One that never confirms it is not waited for without an end.
		w.Hindered = busyHost(0.5)
		host, guest = net.Pipe()
		c, a = connectOver(t, Config{Watch: w}, host, guest)
		silence(t, a)
		began := time.Now()
		_, err = c.Run(testContext(t), RunRequest{Shell: "x", Timeout: time.Second})
		if err == nil || !strings.HasSuffix(err.Error(), "run: timed out after 1s, and the guest has not confirmed "+
			"the end (1.4s on the clock, of which 700ms do not count, since a loaded host left no CPU)") {
			t.Error(err)
		}
		within(t, began, 2400*time.Millisecond, 100*time.Millisecond)
	})
}

// TestFairSilence has a guest that is silent on a busy host: limits of ours do not count what the host took from it,
// up to a cap, and those of a user count all of it.
func TestFairSilence(t *testing.T) {
	for name, c := range map[string]struct {
		share float64 // of the CPU
		asked bool    // the limit is a user's
		after time.Duration
		text  string
	}{
		"quiet": {1, false, 60 * time.Second, "stat: the guest was silent for 1m0s"},
		"half": {0.5, false, 118 * time.Second, "stat: the guest was silent for 1m0s (1m58s on the clock, " +
			"of which 58s do not count, since a loaded host left no CPU)"},
		"nothing": {0, false, 234 * time.Second, "stat: the guest was silent for 1m0s (3m54s on the clock, " +
			"of which 2m54s do not count, since a loaded host left no CPU)"},
		"asked":   {0.5, true, 60 * time.Second, "stat: the guest was silent for 1m0s"},
		"profile": {0, true, 60 * time.Second, "stat: the guest was silent for 1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dead := make(chan Silence, 1)
				w := Watch{Hindered: busyHost(c.share), LimitAsked: name == "profile", Probe: 2 * time.Second,
					Grace: time.Hour}
				host, guest := net.Pipe()
				w.Dead = func(s Silence, _ string) error {
					dead <- s
					return errors.New("dead")
				}
				cl, a := connectOver(t, Config{Watch: w}, host, guest)
				silence(t, a)
				ctx := t.Context()
				if name == "asked" {
					ctx = WithCall(ctx, Call{Limit: time.Minute})
				}
				began := time.Now()
				if _, err := cl.Stat(ctx, "/x", true); err == nil || err.Error() != c.text {
					t.Error(err)
				}
				within(t, began, c.after, time.Second)
			})
		})
	}
}

// TestFairGrace has a guest in doubt give no sign of life on a busy host.
func TestFairGrace(t *testing.T) {
	for _, c := range []struct {
		share float64
		after time.Duration
		not   time.Duration
	}{{1, 5 * time.Second, 0}, {0.5, 10 * time.Second, 5 * time.Second}, {0, 20 * time.Second, 15 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			dead := make(chan Silence, 1)
			host, guest := net.Pipe()
			w := Watch{Probe: 2 * time.Second, Hindered: busyHost(c.share), Dead: func(s Silence, _ string) error {
				dead <- s
				return errors.New("dead")
			}}
			cl, a := connectOver(t, Config{Watch: w}, host, guest)
			silence(t, a)
			ctx := WithCall(t.Context(), Call{Limit: 4 * time.Second})
			if _, err := cl.Stat(ctx, "/x", true); err == nil {
				t.Error("answered")
			}
			began := time.Now()
			s := <-dead
			within(t, began.Add(-2*time.Second), c.after, time.Second) // it was asked 2 s before
			if s.Not > c.not || s.Not < c.not/2 || s.For < c.after {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestSignOfLife has a guest give one late, since the host is busy, and none.
func TestSignOfLife(t *testing.T) {
	for _, c := range []struct {
		share  float64
		after  time.Duration // of the answer
		silent bool
	}{{1, 1400 * time.Millisecond, false}, {1, 1600 * time.Millisecond, true}, {0.5, 2900 * time.Millisecond, false},
		{0, 5900 * time.Millisecond, false}, {0, 6200 * time.Millisecond, true}} {
		synctest.Test(t, func(t *testing.T) {
			host, guest := net.Pipe()
			cl, a := connectOver(t, Config{Watch: Watch{Hindered: busyHost(c.share)}}, host, guest)
			s := silence(t, a)
			time.AfterFunc(c.after, func() { close(s.answer) })
			if got := cl.IsSilent(t.Context()); got != c.silent {
				t.Errorf("%+v: silent %v", c, got)
			}
			<-s.answer
		})
	}
}

// TestStreamsAreNotWatched has an open stream be silent for longer than any limit.
func TestStreamsAreNotWatched(t *testing.T) {
	c, a := connect(t, Config{Watch: quick()})
	background(t, func() error {
		op, _, err := a.request()
		if err != nil {
			return err
		}
		return a.data(op, wire.StreamData, nil)
	})
	if _, err := c.TailFile(testContext(t), "/x", 0, false, 0); err != nil {
		t.Fatal(err)
	}
	if c.look(testContext(t), time.Now()) || !c.IsIdle() {
		t.Error("the stream is watched")
	}
}
