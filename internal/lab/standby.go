package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"provium/internal/disk"
	"provium/internal/guest"
	"provium/internal/network"
	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// standby is a guest restored ahead of need: its agent has answered, which is
// most of the work of a restore, and then it was stopped. It belongs to no VM
// until one adopts it. The little it has run shows in nothing that an ordinary
// restore would not show as well: its clock and its entropy are made anew when
// it goes on.
type standby struct {
	key    standbyKey
	dir    string
	cancel context.CancelFunc
	built  chan struct{} // closed when what follows is settled

	err     error
	machine *qemu.Machine
	link    *guest.Client
	netdevs *network.Netdevs
	drives  disk.Drives
	output  [2]heldWriter
	events  heldEvents
	lost    heldLoss
}

// standbyKey says what a stand-by can serve. All else follows from the snapshot.
type standbyKey struct {
	snapshot snapshot.FileID
	seeded   bool
	seed     uint64
	start    int64 // the fixed wall clock
}

func (p *startPlan) standbyKey() standbyKey {
	k := standbyKey{snapshot: p.origin}
	if p.cfg.RNGSeed != nil {
		k.seeded, k.seed = true, *p.cfg.RNGSeed
	}
	if !p.cfg.RTCBase.IsZero() {
		k.start = p.cfg.RTCBase.UnixNano()
	}
	return k
}

// standbys are those of a Host. The zero value is ready.
type standbys struct {
	mu     sync.Mutex
	list   []*standby     // oldest first
	guests int            // that run
	next   int            // number of a directory
	work   sync.WaitGroup // builds and removals
}

// heldLimit is how many bytes of console, and heldEventLimit how many events, a
// stand-by keeps. One with more is not used.
const (
	heldLimit      = 1 << 20
	heldEventLimit = 1000
)

// Prepare restores a snapshot ahead of need, in the background: the next Restore
// of this file, by whatever VM of the same Host, takes what it has made and goes
// on from there. Of each snapshot one is kept, and no more than there are guests
// that run. Trouble is left for Restore to report.
func (v *VM) Prepare(ctx context.Context, path string) error {
	r, err := snapshot.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := v.host.snapshots.Verify(ctx, r); err != nil {
		return err
	}
	p, err := v.planRestore(ctx, r)
	if err != nil {
		return err
	}
	defer p.release()
	v.host.prepare(p, v.agentTimeout(p.opts, p.cfg.Accel))
	return nil
}

// restored counts a guest that was started from a snapshot. What is restored
// twice is likely to be restored again.
func (v *VM) restored(p *startPlan) {
	if v.host.snapshots.Restored(p.origin) > 1 {
		v.host.prepare(p, v.agentTimeout(p.opts, p.cfg.Accel))
	}
}

// prepare begins to build a stand-by for a plan, unless there is one.
func (h *Host) prepare(p *startPlan, limit time.Duration) {
	if h.NoStandbys {
		return
	}
	s := &h.standbys
	key := p.standbyKey()
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.list, func(b *standby) bool { return b.key == key }) {
		return
	}
	for len(s.list) >= max(1, s.guests) {
		s.dropLocked(s.list[0])
	}
	s.next++
	b := &standby{key: key, dir: fmt.Sprintf("%s/s%d", h.TempDir, s.next), built: make(chan struct{})}
	b.netdevs = h.network().NewNetdevs(nil, b.dir)
	cfg, err := b.config(h, p)
	if err != nil {
		_ = b.drives.Close()
		_ = os.RemoveAll(b.dir)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	b.cancel = cancel
	s.list = append(s.list, b)
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		defer cancel()
		defer closeRestore(cfg.Restore)
		b.err = b.build(ctx, cfg, p)
		close(b.built)
		if b.err != nil {
			s.mu.Lock()
			s.dropLocked(b)
			s.mu.Unlock()
		}
	}()
}

// config makes the stand-by's directory and its machine's description, which
// hold nothing of the plan's VM.
func (b *standby) config(h *Host, p *startPlan) (*qemu.Config, error) {
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return nil, err
	}
	cfg := *p.cfg
	if len(p.opts.Files) > 0 { // the initrd is the VM's own
		cfg.Initrd = filepath.Join(b.dir, "initrd")
		if err := os.Link(p.cfg.Initrd, cfg.Initrd); err != nil {
			return nil, err
		}
	}
	restore := *p.cfg.Restore
	restore.Hold = true
	var err error
	if restore.File, err = snapshot.Dup(p.cfg.Restore.File); err != nil {
		return nil, err
	}
	if p.cfg.Restore.State != nil {
		if restore.State, err = snapshot.Dup(p.cfg.Restore.State); err != nil {
			restore.File.Close()
			return nil, err
		}
	}
	cfg.Restore = &restore
	if len(p.disks) > 0 { // copies of its own
		if b.drives, err = h.diskEnv().OpenDrives(p.disks, b.dir); err != nil {
			closeRestore(&restore)
			return nil, err
		}
		b.drives.Connect(&cfg)
	}
	cfg.Name, cfg.Dir = "standby", b.dir
	cfg.Serial, cfg.HVC, cfg.OnEvent = &b.output[deviceSerial], &b.output[deviceHVC], b.events.add
	return &cfg, nil
}

func closeRestore(r *qemu.Restore) {
	r.File.Close()
	if r.State != nil {
		r.State.Close()
	}
}

// build starts the guest, has its agent answer, and stops it.
func (b *standby) build(ctx context.Context, cfg *qemu.Config, p *startPlan) error {
	var err error
	if cfg.NICs, err = b.netdevs.CreateUnbound(p.nics); err != nil {
		return err
	}
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
	if err := renew(ctx, b.link, p); err != nil {
		return err
	}
	b.drives.HoldFlushes()
	if err := b.machine.Stop(ctx); err != nil {
		return err
	}
	b.drives.IgnoreFlushes()
	b.machine.SyncConsole()
	for _, e := range b.events.take() {
		switch e.Name {
		case "RESET", "SHUTDOWN", "SUSPEND", "GUEST_PANICKED", "GUEST_CRASHLOADED":
			return errors.New("guest event " + e.Name)
		}
	}
	return nil
}

// usable tells whether a built stand-by is still what it was.
func (b *standby) usable() bool {
	if b.err != nil || b.link.Err() != nil || b.events.overflown() || b.output[0].overflown() || b.output[1].overflown() {
		return false
	}
	select {
	case <-b.machine.Done():
		return false
	default:
		return true
	}
}

// takeStandby gives a stand-by that serves the plan and runs now, waiting for one
// that is being built; nil when there is none.
func (h *Host) takeStandby(ctx context.Context, p *startPlan) *standby {
	if !p.restored {
		return nil
	}
	s := &h.standbys
	key := p.standbyKey()
	s.mu.Lock()
	i := slices.IndexFunc(s.list, func(b *standby) bool { return b.key == key })
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
	if b.usable() && b.cont(ctx) == nil {
		return b
	}
	s.mu.Lock()
	s.removeLocked(b)
	s.mu.Unlock()
	return nil
}

// cont has the guest go on.
func (b *standby) cont(ctx context.Context) error {
	if err := b.drives.ObeyFlushes(); err != nil {
		return err
	}
	return b.machine.Cont(ctx)
}

// dropLocked gives a stand-by up. Held: s.mu.
func (s *standbys) dropLocked(b *standby) {
	if i := slices.Index(s.list, b); i >= 0 {
		s.list = slices.Delete(s.list, i, i+1)
		s.removeLocked(b)
	}
}

// removeLocked ends what is in no list any more. Held: s.mu.
func (s *standbys) removeLocked(b *standby) {
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		b.cancel()
		<-b.built
		if b.machine != nil {
			b.machine.Kill()
			<-b.machine.Done()
		}
		if b.link != nil {
			_ = b.link.Close() // nothing is under way
		}
		b.netdevs.Close()
		_ = b.drives.Close() // nobody has seen them
		_ = os.RemoveAll(b.dir)
	}()
}

// drop gives up the stand-bys of a snapshot; those of all when id is zero.
func (s *standbys) drop(id snapshot.FileID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range slices.Clone(s.list) {
		if id == (snapshot.FileID{}) || b.key.snapshot == id {
			s.dropLocked(b)
		}
	}
}

// close gives up all and returns when nothing of them is left.
func (s *standbys) close() {
	s.drop(snapshot.FileID{})
	s.work.Wait()
}

// running counts the guests that run.
func (s *standbys) running(change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guests += change
}

// adopt makes a stand-by this instance's guest.
func (i *instance) adopt(b *standby) {
	i.machine, i.made, i.ownDir = b.machine, b.link, b.dir
	b.lost.set(i.whyLost)
	b.output[deviceSerial].set(i.watch.device(deviceSerial))
	b.output[deviceHVC].set(i.watch.device(deviceHVC))
	i.netdevs.Adopt(b.netdevs, i.plan.nics)
	i.plan.drives = b.drives
	b.events.set(i.onEvent)
}

// heldWriter keeps what is written until somebody wants it.
type heldWriter struct {
	mu   sync.Mutex
	held []byte
	over bool
	to   io.Writer
}

func (w *heldWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.to != nil:
		return w.to.Write(p)
	case len(w.held)+len(p) > heldLimit:
		w.over = true
	default:
		w.held = append(w.held, p...)
	}
	return len(p), nil
}

func (w *heldWriter) overflown() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

func (w *heldWriter) set(to io.Writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) > 0 {
		_, _ = to.Write(w.held) // a console's sink takes everything
	}
	w.to, w.held = to, nil
}

// heldEvents keeps QEMU's events until somebody wants them.
type heldEvents struct {
	mu   sync.Mutex
	held []qemu.Event
	over bool
	to   func(qemu.Event)
}

func (h *heldEvents) add(e qemu.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.to != nil:
		h.to(e)
	case len(h.held) == heldEventLimit:
		h.over = true
	default:
		h.held = append(h.held, e)
	}
}

func (h *heldEvents) overflown() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.over
}

func (h *heldEvents) take() []qemu.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := h.held
	h.held = nil
	return held
}

func (h *heldEvents) set(to func(qemu.Event)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.held {
		to(e)
	}
	h.to, h.held = to, nil
}

// heldLoss explains the end of a link on behalf of whoever has it.
type heldLoss struct {
	mu sync.Mutex
	to func(error) error
}

func (l *heldLoss) why(err error) error {
	l.mu.Lock()
	to := l.to
	l.mu.Unlock()
	if to == nil {
		return err
	}
	return to(err)
}

func (l *heldLoss) set(to func(error) error) {
	l.mu.Lock()
	l.to = to
	l.mu.Unlock()
}
