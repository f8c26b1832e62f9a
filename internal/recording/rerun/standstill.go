package rerun

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"provium/internal/deadline"
)

const (
	// lookEach is how often it is looked at whether the guest goes on.
	lookEach = 2 * time.Second
	// stillLimit is how long a guest may stand still that is to run. Time in which the host leaves it no CPU does not
	// count.
	stillLimit = 60 * time.Second
)

// guest is what standing still is seen by.
type guest interface {
	Status(ctx context.Context) (string, error)
	Icount(ctx context.Context) (int64, error)
	Hindered() time.Duration
}

// pace watches over the progress of a guest: instructions, and events of QEMU.
type pace struct {
	guest  guest
	end    int64 // of the recording
	events *atomic.Int64

	limit *deadline.Deadline
	at    int64 // the last known instruction; -1: none
	seen  int64 // of events
}

func newPace(g guest, end int64, events *atomic.Int64) *pace {
	return &pace{guest: g, end: end, events: events, at: -1}
}

// watch returns an error when the guest has stood still for too long, or when ctx ends. A guest that a debugger has
// stopped stands as long as it likes. Only one call at a time may watch.
func (p *pace) watch(ctx context.Context) error {
	p.begin()
	look := time.NewTicker(lookEach)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-look.C:
		}
		if p.moved(ctx) {
			p.begin()
		} else if p.limit.Left() <= 0 {
			return &StandstillError{At: p.at, End: p.end, Limit: p.limit.String()}
		}
	}
}

func (p *pace) begin() {
	p.limit = deadline.Begin(stillLimit, deadline.Clock{Hindered: p.guest.Hindered})
}

// moved reports whether the guest has gone on since the last look, or need not. A QEMU that does not answer has not.
func (p *pace) moved(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lookEach)
	defer cancel()
	if n := p.events.Load(); n != p.seen {
		p.seen = n
		return true
	}
	if status, err := p.guest.Status(ctx); err != nil || status != "running" {
		return err == nil
	}
	at, err := p.guest.Icount(ctx)
	if err != nil || at == p.at {
		return false
	}
	p.at = at
	return true
}

// StandstillError is returned for a guest that does not go on in what was recorded.
type StandstillError struct {
	At, End int64 // instructions; At is -1 where QEMU has never said it
	Limit   string
}

func (e *StandstillError) Error() string {
	where := fmt.Sprintf("at instruction %d of %d", e.At, e.End)
	if e.At < 0 {
		where = "and QEMU does not answer"
	}
	return fmt.Sprintf("the guest stands still %s for %s: what it waits for is not in the recording, or this QEMU "+
		"does not play it again; record the test again with this version (--record)", where, e.Limit)
}
