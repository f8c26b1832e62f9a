package handle

import (
	"context"
	"fmt"
	"time"

	"provium/internal/guest"
)

// Clock reads and moves a guest's wall clock. Its zero value is not valid.
type Clock struct{ vm VM }

// NewClock returns the clock of a VM, which is checked when used.
func NewClock(vm VM) Clock { return Clock{vm} }

// VM returns the machine whose clock it is.
func (c Clock) VM() VM { return c.vm }

func (c Clock) do(ctx context.Context, op string, do func(*guest.Client) (guest.Clock, error)) (guest.Clock, error) {
	var at guest.Clock
	a := NewActor(c.vm)
	err := a.do(ctx, op, func(g *guest.Client, _ *Epoch) (err error) {
		at, err = do(g)
		return err
	})
	return at, err
}

// GetNS reads the wall clock, in nanoseconds since 1970.
func (c Clock) GetNS(ctx context.Context) (int64, error) {
	at, err := c.do(ctx, "clock:get", func(g *guest.Client) (guest.Clock, error) { return g.ClockGet(ctx) })
	return at.RealtimeNS, err
}

// SetNS sets the wall clock, in nanoseconds since 1970, also before.
func (c Clock) SetNS(ctx context.Context, ns int64) error {
	_, err := c.do(ctx, "clock:set", func(g *guest.Client) (guest.Clock, error) { return g.ClockSet(ctx, ns) })
	return err
}

// AdvanceNS makes the wall clock jump.
func (c Clock) AdvanceNS(ctx context.Context, ns int64) error {
	_, err := c.do(ctx, "clock:advance", func(g *guest.Client) (guest.Clock, error) { return g.ClockAdvance(ctx, ns) })
	return err
}

// Sync sets the wall clock to the host's.
func (c Clock) Sync(ctx context.Context) error {
	_, err := c.do(ctx, "clock:sync", func(g *guest.Client) (guest.Clock, error) {
		return g.ClockSet(ctx, time.Now().UnixNano())
	})
	return err
}

// NotWarped is returned by WarpNS for a guest whose time is the host's.
type NotWarped struct{ VM string }

func (e *NotWarped) Error() string {
	return fmt.Sprintf("vm `%s` is not deterministic, so its time passes as the host's does and cannot be run "+
		"through; clock:advance makes its clock jump, or boot it with `deterministic = true`", e.VM)
}

// WarpNS has a deterministic guest's time pass, as fast as the emulator goes. Its timers fire in their order.
func (c Clock) WarpNS(ctx context.Context, ns int64) error {
	a := NewActor(c.vm)
	return a.do(ctx, "clock:warp", func(g *guest.Client, _ *Epoch) error {
		if !g.IsPaced() {
			return &NotWarped{c.vm.Name()}
		}
		return g.Sleep(ctx, time.Duration(ns))
	})
}

// SleepNS blocks for that long in the guest's time.
func (c Clock) SleepNS(ctx context.Context, ns int64) error {
	a := NewActor(c.vm)
	return a.do(ctx, "clock:sleep", func(g *guest.Client, _ *Epoch) error { return g.Sleep(ctx, time.Duration(ns)) })
}
