package lab

import (
	"context"
	"time"

	"provium/internal/guest"
)

// Clock reads and moves a guest's wall clock.
type Clock struct{ vm *VM }

// Clock is the VM's clock; it is checked when used.
func (v *VM) Clock() Clock { return Clock{v} }

// VM is the machine whose clock it is.
func (c Clock) VM() *VM { return c.vm }

// GetNS reads the wall clock, in nanoseconds since 1970.
func (c Clock) GetNS(ctx context.Context) (int64, error) {
	at, err := guestValue(ctx, c.vm, "clock:get", func(g *guest.Client) (guest.Clock, error) { return g.ClockGet(ctx) })
	return at.RealtimeNS, err
}

// SetNS sets the wall clock, in nanoseconds since 1970, also before.
func (c Clock) SetNS(ctx context.Context, ns int64) error {
	_, err := guestValue(ctx, c.vm, "clock:set",
		func(g *guest.Client) (guest.Clock, error) { return g.ClockSet(ctx, ns) })
	return err
}

// AdvanceNS makes the wall clock jump.
func (c Clock) AdvanceNS(ctx context.Context, ns int64) error {
	_, err := guestValue(ctx, c.vm, "clock:advance",
		func(g *guest.Client) (guest.Clock, error) { return g.ClockAdvance(ctx, ns) })
	return err
}

// Sync sets the wall clock to the host's.
func (c Clock) Sync(ctx context.Context) error {
	_, err := guestValue(ctx, c.vm, "clock:sync", func(g *guest.Client) (guest.Clock, error) {
		return g.ClockSet(ctx, time.Now().UnixNano())
	})
	return err
}

// SleepNS blocks for that long in the guest's time.
func (c Clock) SleepNS(ctx context.Context, ns int64) error {
	return c.vm.guestOp(ctx, "clock:sleep", func(g *guest.Client) error { return g.Sleep(ctx, time.Duration(ns)) })
}
