package guest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"provium/internal/deadline"
	"provium/internal/wire"
)

// Watch says how a Client watches over the operations that its guest has to answer. Its
// zero value is good.
type Watch struct {
	// Limit is how long the guest may be silent while an operation waits that has no time
	// limit, unless its Call says something else. 0 is 60 s.
	//
	// Time in which the guest was Hindered is part of neither Limit nor Grace, Confirm and
	// Sign: at most deadline.Cap times as much may pass. It is part of limits that a user has
	// asked for, such as that of a Call.
	Limit time.Duration
	// LimitAsked says that a user has asked for Limit.
	LimitAsked bool
	// Probe is how long the guest may be silent during an operation before it is asked for
	// a sign of life. 0 is 2 s.
	Probe time.Duration
	// Grace is how long the guest may take to give that sign after an operation has ended
	// without the guest's confirmation. 0 is 5 s.
	Grace time.Duration
	// Confirm is how long an operation with a time limit waits beyond it for the guest to
	// confirm the end. 0 is 700 ms.
	Confirm time.Duration
	// Sign is how long the guest may take to give a sign of life before something is to be
	// closed in it. 0 is 1.5 s.
	Sign time.Duration
	// State returns why the guest cannot answer ("paused"), and "" while its vCPUs run.
	// Time in which they do not run does not count. Nil has them run always. It may block.
	State func(ctx context.Context) string
	// Hindered returns how long, in all, the guest has waited for a CPU of the host. Nil:
	// never.
	Hindered func() time.Duration
	// Time is the clock of limits of ours, but for those of silence. Nil: the host's.
	Time deadline.Time
	// Dead is called once, with how long the guest was silent and the text of the Call for
	// which it was asked. It returns what the operations fail with.
	Dead func(silent Silence, call string) error
}

// Silence is how long a guest was silent while its vCPUs ran, and for how much of that,
// which does not count, the host left it no CPU.
type Silence struct{ For, Not time.Duration }

// stateLimit is how long a look at the vCPUs may take.
const stateLimit = time.Second

func (w Watch) withDefaults() Watch {
	for _, d := range []struct {
		to    *time.Duration
		value time.Duration
	}{{&w.Limit, time.Minute}, {&w.Probe, 2 * time.Second}, {&w.Grace, 5 * time.Second},
		{&w.Confirm, 700 * time.Millisecond}, {&w.Sign, 1500 * time.Millisecond}} {
		if *d.to == 0 {
			*d.to = d.value
		}
	}
	return w
}

// step is the time between two looks at the guest.
func (w Watch) step() time.Duration { return max(w.Probe/8, time.Millisecond) }

// Call says for whom operations are done.
type Call struct {
	Text string // where in a test: "vm:run at tests/a.test.lua:3"
	// Limit replaces that of the Watch: 0 does not, and a negative one is no limit. Somebody
	// has asked for it: it does not mind how busy the host is.
	Limit time.Duration
	// Beside is set for what is no concern of the test: whether the guest answers decides
	// nothing about it.
	Beside bool
}

type callKey struct{}

// WithCall returns a context whose operations are done for that call.
func WithCall(ctx context.Context, call Call) context.Context {
	return context.WithValue(ctx, callKey{}, call)
}

func callOf(ctx context.Context) Call {
	call, _ := ctx.Value(callKey{}).(Call)
	return call
}

// instant is a time on the clock of a vigil, which stands still while the guest's vCPUs do:
// with all the time that has passed, and with what of it counts against a limit of ours.
type instant struct{ all, fair time.Duration }

// since returns what has passed since an earlier instant.
func (t instant) since(earlier instant) instant {
	return instant{t.all - earlier.all, t.fair - earlier.fair}
}

// vigil is what a Client knows of the guest's silence. Fields but heard are guarded by
// Client.mu.
type vigil struct {
	heard atomic.Uint64 // frames, and pieces of them, that have come

	watch   Watch
	passed  func() uint64 // sync points; nil: the guest has none
	on      bool          // the goroutine runs
	clock   instant
	last    time.Time      // the last look
	had     *time.Duration // Watch.Hindered at the last look; nil: that is not known
	seen    uint64         // of heard
	heardAt instant        // when something came last, or the vCPUs did not run
	probing bool           // a probe has no answer yet
	asked   bool           // it was sent since heardAt
	askedAt instant
	doubt   *doubt
}

// doubt is about a guest that has not confirmed the end of an operation.
type doubt struct{ call string }

// signs returns a number that grows with each sign of life.
func (w *vigil) signs() uint64 {
	n := w.heard.Load()
	if w.passed != nil {
		n += w.passed()
	}
	return n
}

// start begins a time of watching. w.on says that it has begun already.
func (w *vigil) start(now time.Time) {
	w.on, w.last, w.seen, w.had = true, now, w.signs(), nil
	w.listen()
}

// listen forgets the silence so far.
func (w *vigil) listen() { w.heardAt, w.asked, w.doubt = w.clock, false, nil }

// advance moves the clock to now. state says why the vCPUs do not run. hindered is how long,
// in all, the guest has waited for a CPU, nil if that is not known.
func (w *vigil) advance(now time.Time, state string, hindered *time.Duration) {
	step := w.watch.step()
	passed := now.Sub(w.last)
	if passed > 8*step {
		passed = step // the host itself was late
	}
	w.last = now
	not := time.Duration(0)
	if w.had != nil && hindered != nil {
		not = min(max(0, *hindered-*w.had), passed-passed/deadline.Cap)
	}
	w.had = hindered
	w.clock.all += passed
	w.clock.fair += passed - not
	switch heard := w.signs(); {
	case heard != w.seen:
		w.seen = heard
		w.listen()
	case state != "":
		w.heardAt, w.asked = w.clock, false // the doubt stays
	}
}

// silence returns how long the guest has been silent since an operation began.
func (w *vigil) silence(since instant) instant {
	if since.all < w.heardAt.all {
		since = w.heardAt
	}
	return w.clock.since(since)
}

// isDead reports whether a guest in doubt has had the time to give a sign of life.
func (w *vigil) isDead() bool {
	return w.doubt != nil && w.asked && w.clock.since(w.askedAt).fair >= w.watch.Grace
}

// SetWatch replaces how the Client watches over operations.
func (c *Client) SetWatch(w Watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vigil.watch = w.withDefaults()
}

// IsSilent reports whether the guest gives no sign of life in the time that Watch has for
// it. It does not wait for a guest that has left a question unanswered for most of that.
func (c *Client) IsSilent(ctx context.Context) bool {
	if c.pace != nil {
		return false // it stands, and a question would be a part of the run
	}
	c.mu.Lock()
	watch := c.vigil.watch
	c.mu.Unlock()
	if c.SilentFor() < watch.Sign/2 {
		limited, cancel := watch.begin(watch.Sign).Context(ctx, errNoSign)
		defer cancel()
		if c.Ping(limited) == nil {
			return false
		}
	}
	return c.Err() == nil
}

var errNoSign = errors.New("the guest gives no sign of life")

// begin begins a limit of ours.
func (w Watch) begin(limit time.Duration) *deadline.Deadline {
	return deadline.Begin(limit, deadline.Clock{Time: w.Time, Hindered: w.Hindered})
}

// SilentFor returns how long the guest has left the question for a sign of life
// unanswered, and 0 if it has none to answer.
func (c *Client) SilentFor() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &c.vigil
	if !w.asked || w.signs() != w.seen {
		return 0
	}
	return w.clock.since(w.askedAt).fair
}

// attend watches over an operation that begins. The caller must hold c.mu.
func (c *Client) attend(op *call) {
	w := &c.vigil
	if !w.on {
		w.start(time.Now())
		go c.keepVigil()
	}
	op.begunAt = w.clock
	if op.limit = op.call.Limit; op.limit == 0 {
		op.limit, op.fair = w.watch.Limit, !w.watch.LimitAsked
	}
}

// suspect records that an operation has ended without the guest's confirmation: the guest
// has a while to give a sign of life.
func (c *Client) suspect(op *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	w := &c.vigil
	if !w.on {
		w.start(time.Now())
		go c.keepVigil()
	}
	if heard := w.signs(); heard != w.seen { // what came before is no answer
		w.seen = heard
		w.listen()
	}
	if w.doubt == nil {
		w.doubt = &doubt{op.call.Text}
	}
}

// keepVigil looks at the guest from time to time, until nothing is to be watched.
func (c *Client) keepVigil() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		c.mu.Lock()
		watch := c.vigil.watch
		c.mu.Unlock()
		select {
		case <-c.cfg.After(watch.step()):
		case <-c.failed:
			return
		}
		if !c.look(ctx, time.Now()) {
			return
		}
	}
}

// look looks at the guest once. It returns false when nothing is to be watched.
func (c *Client) look(ctx context.Context, now time.Time) (more bool) {
	c.mu.Lock()
	w := &c.vigil
	watch := w.watch
	pending, silent := false, time.Duration(0)
	for _, op := range c.ops {
		if op.isWatched() {
			pending = true
			silent = max(silent, w.silence(op.begunAt).all)
		}
	}
	if !pending && w.doubt == nil || c.err != nil {
		w.on = false
		c.mu.Unlock()
		return false
	}
	ask := w.doubt != nil || silent+watch.step() >= watch.Probe
	c.mu.Unlock()
	state := ""
	if ask && watch.State != nil {
		limited, cancel := context.WithTimeout(ctx, stateLimit)
		state = watch.State(limited)
		cancel()
	}
	var hindered *time.Duration
	if ask && watch.Hindered != nil {
		h := watch.Hindered()
		hindered = &h
	}

	c.mu.Lock()
	w.advance(now, state, hindered)
	expired, call := c.expired()
	if len(expired) > 0 && w.doubt == nil {
		w.doubt = &doubt{call}
	}
	if w.doubt != nil {
		call = w.doubt.call
	}
	dead, quiet := w.isDead() || c.pace != nil && hasFairLimit(expired), w.clock.since(w.heardAt)
	if ask = ask && c.pace == nil && state == "" && quiet.all > 0 && !dead; ask {
		if !w.asked {
			w.asked, w.askedAt = true, w.clock
		}
		if !w.probing {
			w.probing = true
			go c.probe(ctx)
		}
	}
	c.mu.Unlock()
	if dead {
		c.Fail(watch.dead(quiet, call))
		return false
	}
	for _, e := range expired {
		e.op.cancel(&SilentError{Limit: e.op.limit, State: state, Charged: e.charged})
	}
	return true
}

func (w Watch) dead(quiet instant, call string) error {
	if w.Dead == nil {
		return fmt.Errorf("no sign of life for %v", quiet.all.Round(time.Millisecond))
	}
	return w.Dead(Silence{For: quiet.all, Not: quiet.all - quiet.fair}, call)
}

// expiredCall is an operation during which the guest was silent for too long.
type expiredCall struct {
	op      *call
	charged string // of its limit, "" if that is all
}

// expired returns the operations during which the guest was silent for too long, and the
// text of the Call of one of them. The caller must hold c.mu.
func (c *Client) expired() (list []expiredCall, text string) {
	for _, op := range c.ops {
		silent := c.vigil.silence(op.begunAt)
		counts, charged := silent.all, ""
		if op.fair {
			counts, charged = silent.fair, deadline.Charged(silent.all, silent.all-silent.fair)
		}
		if op.isWatched() && op.limit > 0 && counts >= op.limit {
			list = append(list, expiredCall{op, charged})
			if op.call.Text != "" {
				text = op.call.Text
			}
		}
	}
	return list, text
}

// hasFairLimit reports whether one of the operations had a limit that nobody has asked for. A deterministic guest is
// dead then. It is asked for no sign of life, which would be a part of its run: its sync points are signs, and come by
// themselves.
func hasFairLimit(expired []expiredCall) bool {
	return slices.ContainsFunc(expired, func(e expiredCall) bool { return e.op.fair })
}

// probe asks the guest for a sign of life and waits for it: everything that comes is one.
func (c *Client) probe(ctx context.Context) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.vigil.probing = false
	}()
	op, err := c.begin(context.WithoutCancel(ctx), &wire.Ping{}, transfer{unwatched: true})
	if err != nil {
		return
	}
	defer op.cancel(nil)
	for {
		select {
		case <-op.wake:
		case <-c.failed:
			return
		}
		op.mu.Lock()
		ended := op.end != nil
		op.mu.Unlock()
		if ended {
			return
		}
	}
}

// AwaitIdle waits until the guest has confirmed the end of every operation, also of those
// that were given up. Open streams do not count.
func (c *Client) AwaitIdle(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.err != nil {
			c.mu.Unlock()
			return c.Err()
		}
		if c.isIdle() {
			c.mu.Unlock()
			return nil
		}
		if c.forgot == nil {
			c.forgot = make(chan struct{})
		}
		wait := c.forgot
		c.mu.Unlock()
		select {
		case <-wait:
		case <-c.failed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// IsIdle reports whether AwaitIdle would return at once.
func (c *Client) IsIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isIdle()
}

// isIdle is IsIdle for a caller that holds c.mu.
func (c *Client) isIdle() bool {
	for _, op := range c.ops {
		if !op.isOpen.Load() {
			return false
		}
	}
	return true
}
