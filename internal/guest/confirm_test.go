package guest

import (
	"errors"
	"testing"
	"time"

	"provium/internal/wire"
)

// answerAgain answers a Hello of a session that is under way, behind what is left of
// another agent's words.
func (a *fakeAgent) answerAgain(id string, left []byte) error {
	session := a.nonce
	if err := a.hello(); err != nil {
		return err
	}
	if a.nonce != session {
		return errors.New("another nonce")
	}
	if err := a.write(left); err != nil {
		return err
	}
	hello := goodHello
	hello.AgentID = id
	return a.answerHello(a.nonce, wire.Header{Type: wire.FrameHelloOk}, hello.Append(nil))
}

// TestConfirm has the same agent answer again, behind the rest of what another one had to
// say: what is under way goes on.
func TestConfirm(t *testing.T) {
	for name, noise := range map[string][]byte{
		"nothing": nil,
		"noise":   []byte("\xff\xff half a frame of another agent"),
		"padding": make([]byte, wire.HeaderSize),
		"session": append(wire.AppendPreamble(nil, wire.Nonce{1}), "\xff\xff\xff\xff"...),
	} {
		t.Run(name, func(t *testing.T) {
			c, a := connect(t, Config{})
			ping := make(chan error, 1)
			asked := make(chan uint64, 1)
			done := background(t, func() error {
				op, _, err := a.request()
				asked <- op
				if err == nil {
					err = a.answerAgain("first", noise)
				}
				return err
			})
			go func() { ping <- c.Ping(testContext(t)) }()
			op := <-asked
			if err := c.Confirm(testContext(t)); err != nil {
				t.Fatal(err)
			}
			done()
			if err := a.result(op, wire.Result{}); err != nil {
				t.Error(err)
			}
			if err := <-ping; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestConfirmFindsAnother has another agent answer, and only when asked again.
func TestConfirmFindsAnother(t *testing.T) {
	clock := make(chan time.Time)
	lost := make(chan error, 1)
	why := errors.New("the reason")
	c, a := connect(t, Config{Resend: time.Minute,
		After: func(d time.Duration) <-chan time.Time {
			if d == time.Minute {
				return clock
			}
			return nil
		},
		Lost: func(err error) error {
			lost <- err
			return why
		}})
	ping := make(chan error, 1)
	go func() { ping <- c.Ping(testContext(t)) }()
	asked := make(chan error, 1)
	background(t, func() error {
		_, _, err := a.request()
		asked <- err
		if err != nil {
			return err
		}
		if err := a.hello(); err != nil { // that the kernel before has swallowed
			return err
		}
		clock <- time.Now()
		return a.answerAgain("second", nil)
	})
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	if err := c.Confirm(testContext(t)); !errors.Is(err, why) {
		t.Error(err)
	}
	if err := <-lost; !errors.Is(err, ErrReplaced) {
		t.Error(err)
	}
	if err := <-ping; !errors.Is(err, why) {
		t.Error(err)
	}
	if err := c.Confirm(testContext(t)); !errors.Is(err, why) {
		t.Error(err)
	}
}
