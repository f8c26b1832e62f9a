package guest

import (
	"context"

	"provium/internal/wire"
)

// Confirm asks who is at the other end of the link, after the guest has closed its end
// and opened it again. It returns nil when that is still the same run of the agent: its
// operations go on. Otherwise the link ends, with an error that wraps ErrReplaced.
func (c *Client) Confirm(ctx context.Context) error {
	select {
	case c.confirming <- struct{}{}:
		defer func() { <-c.confirming }()
	case <-c.failed:
		return c.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	same := make(chan struct{})
	c.mu.Lock()
	c.confirmed = same
	c.mu.Unlock()
	hello := c.hello()
	for p := hello; ; p = append(make([]byte, wire.ResyncPadding), hello...) {
		if err := c.send(ctx, p); err != nil {
			return err
		}
		c.adjust(0, +1)
		defer c.adjust(0, -1)
		select {
		case <-same:
			return nil
		case <-c.failed:
			return c.Err()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.cfg.After(c.cfg.Resend):
		}
	}
}

// hello returns what a session begins with, and what its agent answers at any time.
func (c *Client) hello() []byte {
	return wire.AppendFrame(wire.AppendPreamble(nil, c.nonce), wire.Header{Type: wire.FrameHello},
		wire.Hello{ProtocolVersion: wire.ProtocolVersion}.Append(nil))
}

// helloAgain takes a HelloOk of a session that is under way.
func (c *Client) helloAgain(p []byte) error {
	m, err := wire.DecodeHelloOk(p)
	if err != nil {
		return err
	}
	if m.AgentID != c.info.AgentID {
		return ErrReplaced
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.confirmed != nil {
		close(c.confirmed)
		c.confirmed = nil
	}
	return nil
}

// isConfirming reports whether a Confirm waits for its answer.
func (c *Client) isConfirming() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.confirmed != nil
}

// find skips what another agent has left on the link, up to the answer to a Confirm.
func (c *Client) find(r *wire.Reader) error {
	for {
		n, err := r.Resync()
		if err != nil || n == c.nonce {
			return err
		}
	}
}
