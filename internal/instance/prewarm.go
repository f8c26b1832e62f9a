package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"provium/internal/guest"
	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// Prewarmed is a guest that was restored ahead of need: its agent has answered, which
// is most of the work of a restore, and then it was stopped. It belongs to no VM until
// an instance adopts it. The little it has run shows in nothing that an ordinary
// restore would not show as well: its clock and its entropy are made anew when it goes
// on.
type Prewarmed struct {
	// Parts are the devices that it was made with.
	Parts Parts

	key    Key
	dir    string
	cancel context.CancelFunc
	built  chan struct{} // closed when what follows is settled

	err     error
	machine *qemu.Machine
	link    *guest.Client
	output  [2]heldWriter
	events  heldEvents
	lost    heldLoss
}

// Key says what a prewarmed guest can serve. All else follows from the snapshot.
type Key struct {
	Snapshot snapshot.FileID
	Seeded   bool
	Seed     uint64
	Start    int64 // the fixed wall clock, in nanoseconds since 1970; 0 if it is not fixed
}

// KeyOf returns the key of the guest of a snapshot in a machine.
func KeyOf(id snapshot.FileID, cfg *qemu.Config) Key {
	k := Key{Snapshot: id}
	if cfg.RNGSeed != nil {
		k.Seeded, k.Seed = true, *cfg.RNGSeed
	}
	if !cfg.RTCBase.IsZero() {
		k.Start = cfg.RTCBase.UnixNano()
	}
	return k
}

// Parts are the disks and NICs of a prewarmed machine.
type Parts interface {
	// Stopping is called before the vCPUs stop, Stopped when they have.
	Stopping()
	Stopped()
	// Resume is called before the vCPUs run again.
	Resume() error
	// Close is called when the machine is gone and no instance has adopted it.
	Close()
}

// Order describes a guest to restore ahead of need.
type Order struct {
	Key   Key
	Limit time.Duration // for everything up to the agent's answer
	// Plan returns the machine, which must have nothing of a VM, and its parts. dir is
	// its own directory. The files of the Restore are the Pool's from then on. Parts
	// may come with an error, and are closed then.
	Plan func(dir string) (*qemu.Config, Parts, error)
	// Reseed makes the guest differ from others of the same snapshot.
	Reseed func(context.Context, *guest.Client) error
}

// Pool keeps prewarmed guests: of each key one, and no more than there are guests that
// run. It is safe for concurrent use; the zero value is empty.
type Pool struct {
	mu      sync.Mutex
	list    []*Prewarmed   // oldest first
	running int            // guests that run
	next    int            // number of a directory
	work    sync.WaitGroup // builds and removals
}

// heldLimit is how many bytes of console, and heldEventLimit how many events, a
// prewarmed guest keeps. One with more is not used.
const (
	heldLimit      = 1 << 20
	heldEventLimit = 1000
)

// Prepare begins to restore a guest in the background, in a directory below temp,
// unless there is one. Errors are left for an ordinary restore to report.
func (s *Pool) Prepare(temp string, o Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.list, func(b *Prewarmed) bool { return b.key == o.Key }) {
		return
	}
	for len(s.list) >= max(1, s.running) {
		s.drop(s.list[0])
	}
	s.next++
	b := &Prewarmed{key: o.Key, dir: fmt.Sprintf("%s/s%d", temp, s.next), built: make(chan struct{})}
	cfg, err := b.plan(o)
	if err != nil {
		if b.Parts != nil {
			b.Parts.Close()
		}
		_ = os.RemoveAll(b.dir) // with the run's directory, if not now
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.Limit)
	b.cancel = cancel
	s.list = append(s.list, b)
	s.work.Go(func() {
		defer cancel()
		defer closeRestore(cfg.Restore)
		b.err = b.build(ctx, cfg, o)
		close(b.built)
		if b.err != nil {
			s.mu.Lock()
			s.drop(b)
			s.mu.Unlock()
		}
	})
}

// plan makes the directory and the description of the machine.
func (b *Prewarmed) plan(o Order) (*qemu.Config, error) {
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return nil, err
	}
	cfg, parts, err := o.Plan(b.dir)
	b.Parts = parts
	if err != nil {
		return nil, err
	}
	cfg.Name, cfg.Dir, cfg.Restore.Hold = "prewarmed", b.dir, true
	cfg.Serial, cfg.HVC, cfg.OnEvent = &b.output[deviceSerial], &b.output[deviceHVC], b.events.add
	return cfg, nil
}

func closeRestore(r *qemu.Restore) {
	r.File.Close()
	if r.State != nil {
		r.State.Close()
	}
}

// build starts the guest, waits for its agent, and stops it.
func (b *Prewarmed) build(ctx context.Context, cfg *qemu.Config, o Order) error {
	var err error
	if b.machine, err = qemu.Start(ctx, *cfg); err != nil {
		return err
	}
	if err := b.machine.Cont(ctx); err != nil {
		return err
	}
	conn, err := b.machine.DialAgent(ctx)
	if err != nil {
		return err
	}
	if b.link, err = guest.Connect(ctx, conn, guest.Config{Lost: b.lost.why, Resend: restoredResend}); err != nil {
		return err
	}
	// Done here as well, it costs little the second time where code is translated.
	if err := o.Reseed(ctx, b.link); err != nil {
		return err
	}
	b.Parts.Stopping()
	if err := b.machine.Stop(ctx); err != nil {
		return err
	}
	b.Parts.Stopped()
	b.machine.SyncConsole()
	for _, e := range b.events.take() {
		switch e.Name {
		case "RESET", "SHUTDOWN", "SUSPEND", "GUEST_PANICKED", "GUEST_CRASHLOADED":
			return errors.New("guest event " + e.Name)
		}
	}
	return nil
}

// usable reports whether a built guest is still what it was.
func (b *Prewarmed) usable() bool {
	if b.err != nil || b.link.Err() != nil || b.events.overflown() || b.output[0].overflown() ||
		b.output[1].overflown() {
		return false
	}
	select {
	case <-b.machine.Done():
		return false
	default:
		return true
	}
}

// Take returns a guest that runs now, waiting for one that is being built; nil when
// there is none of that key. It must be given to Start.
func (s *Pool) Take(ctx context.Context, key Key) *Prewarmed {
	s.mu.Lock()
	i := slices.IndexFunc(s.list, func(b *Prewarmed) bool { return b.key == key })
	if i < 0 {
		s.mu.Unlock()
		return nil
	}
	b := s.list[i]
	s.mu.Unlock()
	select {
	case <-b.built:
	case <-ctx.Done():
		return nil
	}
	s.mu.Lock()
	if i = slices.Index(s.list, b); i < 0 {
		s.mu.Unlock()
		return nil // somebody was faster, or it failed
	}
	s.list = slices.Delete(s.list, i, i+1)
	s.mu.Unlock()
	if b.usable() && b.resume(ctx) == nil {
		return b
	}
	s.mu.Lock()
	s.remove(b)
	s.mu.Unlock()
	return nil
}

func (b *Prewarmed) resume(ctx context.Context) error {
	if err := b.Parts.Resume(); err != nil {
		return err
	}
	return b.machine.Cont(ctx)
}

// drop takes a guest off the list and ends it. The caller must hold s.mu.
func (s *Pool) drop(b *Prewarmed) {
	if i := slices.Index(s.list, b); i >= 0 {
		s.list = slices.Delete(s.list, i, i+1)
		s.remove(b)
	}
}

// remove ends a guest that is in no list any more. The caller must hold s.mu.
func (s *Pool) remove(b *Prewarmed) {
	s.work.Go(func() {
		b.cancel()
		<-b.built
		if b.machine != nil {
			b.machine.Kill()
			<-b.machine.Done()
		}
		if b.link != nil {
			_ = b.link.Close() // nothing is under way
		}
		b.Parts.Close()
		_ = os.RemoveAll(b.dir) // with the run's directory, if not now
	})
}

// Drop ends the guests of a snapshot, in the background.
func (s *Pool) Drop(id snapshot.FileID) {
	s.dropAll(func(b *Prewarmed) bool { return b.key.Snapshot == id })
}

func (s *Pool) dropAll(which func(*Prewarmed) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range slices.Clone(s.list) {
		if which(b) {
			s.drop(b)
		}
	}
}

// Close ends all guests and returns when nothing of them is left. The Pool may be used
// again.
func (s *Pool) Close() {
	s.dropAll(func(*Prewarmed) bool { return true })
	s.work.Wait()
}

// CountRunning changes the number of guests that run.
func (s *Pool) CountRunning(change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += change
}

// adopt makes a prewarmed guest this instance's.
func (i *Instance) adopt(b *Prewarmed) {
	i.machine, i.warm = b.machine, b
	b.lost.set(i.whyLost(0))
	b.link.SetWatch(i.watchOver())
	b.output[deviceSerial].set(i.watch.device(deviceSerial))
	b.output[deviceHVC].set(i.watch.device(deviceHVC))
	b.events.set(i.onEvent)
}
