package instance

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"provium/internal/guest"
	"provium/internal/qemu"
)

// freshEntropy is what a restored guest's random generator gets, in bytes: twice what a
// full reseed takes.
const freshEntropy = 64

// Renewal says what makes a guest that goes on from a snapshot differ from others of it.
type Renewal struct {
	Seed      *uint64 // of the random device; nil: the host's entropy
	Use       string  // of that seed, from Uses or UseOfBoot
	FixedTime bool    // the wall clock goes on where it stood
	MachineID bool    // the guest gets an /etc/machine-id of its own, if it had made one
}

// UseOfBoot is the use of a seed by a boot.
const UseOfBoot = "boot"

// Apply renews the guest of a link. m is its machine, nil for one whose random device is
// renewed later.
func (r *Renewal) Apply(ctx context.Context, link *guest.Client, m *qemu.Machine) error {
	req := &guest.Renew{MachineID: r.MachineID}
	if m != nil {
		req.Disturb, req.Tick = m.Disturbance(), m.Ticks()
	}
	if !r.FixedTime {
		req.RealtimeNS = time.Now().UnixNano()
	}
	switch {
	case r.Seed == nil:
		req.DropRandom = true
		req.Entropy = make([]byte, freshEntropy)
		_, _ = rand.Read(req.Entropy) // never fails
	case m != nil:
		req.Entropy = qemu.KernelEntropy(*r.Seed, r.Use, freshEntropy)
		req.RandomBlock = m.RestartEntropy(r.Use)
		defer m.ReleaseEntropy()
	}
	return link.Renew(ctx, req)
}

// SeedBoot brings the random device of a guest that has booted, or was reset, to the start
// of the stream of a use, and begins to disturb one that is to be. It does nothing to a machine without a seed.
func SeedBoot(ctx context.Context, link *guest.Client, m *qemu.Machine, use string) error {
	r := &guest.Renew{RandomBlock: m.RestartEntropy(use), Disturb: m.Disturbance(), Tick: m.Ticks()}
	if r.RandomBlock == nil && r.Disturb == 0 && !r.Tick {
		return nil
	}
	defer m.ReleaseEntropy()
	return link.Renew(ctx, r)
}

// Uses counts restores by name, so that each one makes another use of a seed, and a
// repeated run the same ones. The zero value has counted none. It is safe for concurrent
// use.
type Uses struct {
	mu sync.Mutex
	n  map[string]int
}

// Next returns the use of the next restore of a VM.
func (u *Uses) Next(vm string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n == nil {
		u.n = map[string]int{}
	}
	u.n[vm]++
	return fmt.Sprintf("restore %d of %s", u.n[vm], vm)
}

// CheckClock returns an error for a guest that boots since started and whose clock is ahead of the host's: the kernel
// measured its counter wrong.
func CheckClock(ctx context.Context, link *guest.Client, started time.Time) error {
	c, err := link.ClockGet(ctx)
	if err != nil {
		return nil // something else is wrong
	}
	if ahead := time.Duration(c.BoottimeNS) - time.Since(started); ahead >= time.Second {
		return fmt.Errorf("the guest's clock is %s ahead, since its kernel measured a wrong frequency of its TSC",
			ahead.Round(time.Second))
	}
	return nil
}

// SetTime sets the wall clock of a guest that has just booted to the time since when it
// boots, or to the earliest that its kernel takes. The RTC counts whole seconds: the
// fraction, and what the boot took from the clock's point of view, are set here.
func SetTime(ctx context.Context, link *guest.Client, booted time.Time) error {
	c, err := link.ClockGet(ctx)
	if err == nil {
		err = link.ClockSetEarliest(ctx, booted.UnixNano()+c.BoottimeNS)
	}
	return err
}
