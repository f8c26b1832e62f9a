package seat

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Machine is where keys go to.
type Machine interface {
	// Key presses or releases a key.
	Key(ctx context.Context, name string, down bool) error
	// KeysTaken reports whether the guest has read all that the keyboard has sent.
	KeysTaken(ctx context.Context) (bool, error)
}

// Limits of the waiting for a guest: how long for one key, and how often it is looked at meanwhile.
const (
	keyLimit  = 30 * time.Second
	firstLook = time.Millisecond
	lastLook  = 20 * time.Millisecond
)

// Type presses and releases keys. Each is sent when the guest has taken those before, since a keyboard remembers only
// a few. When Type returns, the guest has taken them all.
func Type(ctx context.Context, m Machine, chords []Chord) error {
	for _, c := range chords {
		for _, key := range c {
			if err := send(ctx, m, key, true); err != nil {
				return err
			}
		}
		for _, key := range slices.Backward(c) {
			if err := send(ctx, m, key, false); err != nil {
				return err
			}
		}
	}
	return nil
}

func send(ctx context.Context, m Machine, key string, down bool) error {
	if err := m.Key(ctx, key, down); err != nil {
		return err
	}
	limited, cancel := context.WithTimeoutCause(ctx, keyLimit, fmt.Errorf("the guest has not taken the key %q "+
		"within %v: it is paused, or has no driver of a PS/2 keyboard", key, keyLimit))
	defer cancel()
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		if taken, err := m.KeysTaken(limited); err != nil || taken {
			return err
		}
		select {
		case <-time.After(wait):
		case <-limited.Done():
			return context.Cause(limited)
		}
	}
}
