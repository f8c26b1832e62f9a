package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"provium/internal/event"
	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/network"
	"provium/internal/qemu"
)

// instance is one guest of a VM: one QEMU process, the link to the agent in it
// and what is known about how it ended.
type instance struct {
	vm           *VM
	machine      *qemu.Machine
	watch        *consoleWatch
	agentTimeout time.Duration
	giveBack     func() // returns the pool's share
	plan         *startPlan
	netdevs      *network.Netdevs
	made         *guest.Client // link of a stand-by, for the first boot
	ownDir       string        // to be removed at the end; "" is none

	ready  chan struct{}   // closed when machine is set
	ctx    context.Context // ends with the instance
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // linkers and timers
	done   chan struct{}  // closed when the process is gone and the VM knows

	mu        sync.Mutex
	boot      int           // counts boots: resets and reboots of the guest
	epoch     *handle.Epoch // of what the agent holds
	link      *guest.Client // nil while no agent answers
	linked    chan struct{} // closed when link is set, or the instance ended
	linker    *linker       // makes, or keeps, the link of this boot
	deadline  time.Time     // by which an agent has to answer; resets on the way do not move it
	fruitless int           // resets since the last link
	expected  bool          // the end is wanted: the caller settles the VM's state
	reason    string        // why it ended; the first one counts
	suspended bool
	stood     time.Duration // for the last snapshot
	closedAt  *time.Timer   // runs while the agent's port is closed
	startedAt time.Time     // when it was announced by vm_spawned; zero: not announced
	over      bool          // supervise has looked at startedAt
}

func startInstance(ctx context.Context, v *VM, p *startPlan, agentTimeout time.Duration, giveBack func()) (*instance, error) {
	cfg := p.cfg
	i := &instance{vm: v, agentTimeout: agentTimeout, giveBack: giveBack, plan: p, epoch: p.mark.Restore(),
		ready: make(chan struct{}), done: make(chan struct{}), linked: make(chan struct{})}
	i.ctx, i.cancel = context.WithCancelCause(context.Background())
	i.netdevs = v.host.network().NewNetdevs(v, cfg.Dir)
	i.watch = newConsoleWatch(v, i)
	cfg.Serial, cfg.HVC, cfg.OnEvent = i.watch.device(deviceSerial), i.watch.device(deviceHVC), i.onEvent
	if b := v.host.takeStandby(ctx, p); b != nil {
		i.adopt(b)
	} else {
		var err error
		if cfg.NICs, err = i.netdevs.Create(p.nics, p.restored); err != nil {
			i.cancel(err)
			return nil, err
		}
		own := *cfg
		if len(p.disks) > 0 {
			if p.drives, err = v.host.diskEnv().OpenDrives(p.disks, cfg.Dir); err == nil {
				p.drives.Connect(&own)
			}
		}
		if err == nil {
			i.machine, err = qemu.Start(ctx, own)
		}
		if err != nil {
			i.netdevs.Close()
			i.cancel(err)
			return nil, err
		}
	}
	v.host.standbys.running(+1)
	close(i.ready)
	go i.supervise()
	i.mu.Lock()
	i.deadline = time.Now().Add(agentTimeout)
	i.relinkLocked()
	i.mu.Unlock()
	return i, nil
}

// supervise waits for the end of the process and tells everybody.
func (i *instance) supervise() {
	<-i.machine.Done()
	i.watch.flush()
	i.vm.log.End()
	i.mu.Lock()
	if i.reason == "" {
		i.reason = "qemu ended"
		if stderr, err := i.machine.Exit(); err != nil {
			i.reason = err.Error()
			if stderr != "" {
				i.reason += ": " + stderr
			}
		}
	}
	reason, expected, link := i.reason, i.expected, i.link
	if i.closedAt != nil {
		i.closedAt.Stop()
	}
	startedAt := i.startedAt
	i.over = true
	i.mu.Unlock()
	// The state first: who is told that the guest is gone finds it dead.
	if !expected {
		i.vm.died(i, reason)
	}
	gone := &GuestGoneError{VM: i.vm.name, Reason: reason}
	i.cancel(gone)
	if link != nil {
		link.Fail(gone)
	}
	i.work.Wait()
	i.netdevs.Close()
	if i.ownDir != "" {
		_ = os.RemoveAll(i.ownDir) // with the run's directory, if not now
	}
	i.vm.host.standbys.running(-1)
	if !startedAt.IsZero() {
		i.announceEnd(startedAt)
	}
	i.giveBack()
	close(i.done)
}

// spawned announces the guest. Its end is announced exactly once after that.
func (i *instance) spawned(e event.VMSpawned) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.startedAt = time.Now()
	i.vm.host.emit(e)
	if i.over { // it died in this very moment
		i.announceEnd(i.startedAt)
	}
}

func (i *instance) announceEnd(startedAt time.Time) {
	i.vm.host.emit(event.VMShutdown{File: i.vm.host.File, VMName: i.vm.name, DurationNS: uint64(time.Since(startedAt))})
}

// onEvent hears QEMU. It runs on the monitor's reader and must not block.
func (i *instance) onEvent(e qemu.Event) {
	switch e.Name {
	case "RESET":
		i.onReset()
	case "SHUTDOWN":
		var d struct {
			Guest  bool
			Reason string
		}
		if err := json.Unmarshal(e.Data, &d); err == nil && d.Guest {
			i.setReason("guest powered off")
		}
	case "SUSPEND":
		i.mu.Lock()
		i.suspended = true
		i.portOpenedLocked()
		i.mu.Unlock()
	case "WAKEUP":
		i.mu.Lock()
		i.suspended = false
		i.mu.Unlock()
	case "VSERPORT_CHANGE":
		var d struct {
			ID   string
			Open bool
		}
		if err := json.Unmarshal(e.Data, &d); err == nil && d.ID == "agentport" {
			i.onPort(d.Open)
		}
	}
}

// onPort follows the agent's port as the guest opens and closes it.
func (i *instance) onPort(open bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if open {
		i.portOpenedLocked()
		return
	}
	if i.link == nil || i.suspended || i.closedAt != nil {
		return
	}
	link := i.link
	i.closedAt = time.AfterFunc(lostPortGrace, func() {
		i.mu.Lock()
		lost := i.closedAt != nil && i.link == link && !i.suspended
		i.mu.Unlock()
		if lost {
			i.fail("the agent is lost: it closed its port")
		}
	})
}

func (i *instance) portOpenedLocked() {
	if i.closedAt != nil {
		i.closedAt.Stop()
		i.closedAt = nil
	}
}

// onReset starts over with the agent of the new boot. Resets may follow each
// other before an agent has answered, as with a guest that reboots in a loop.
func (i *instance) onReset() {
	select {
	case <-i.ready:
		i.machine.SyncConsole()
	default:
	}
	i.vm.log.MarkBoot()
	i.vm.disks.PowerOn()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.boot++
	i.epoch = &handle.Epoch{}
	i.portOpenedLocked()
	i.suspended = false
	if i.ctx.Err() != nil {
		return
	}
	i.fruitless++
	if link := i.link; link != nil {
		i.link, i.linked = nil, make(chan struct{})
		i.deadline, i.fruitless = time.Now().Add(i.agentTimeout), 0
		link.Fail(&GuestGoneError{VM: i.vm.name, Reason: "the guest was reset"})
	}
	i.relinkLocked()
}

// linker is the goroutine that connects to the agent of one boot and then
// watches the link.
type linker struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// relinkLocked connects to the agent in the background, after the linker of the
// boot before has ended: QEMU serves one connection of the port at a time.
// Held: i.mu.
func (i *instance) relinkLocked() {
	before, boot, deadline := i.linker, i.boot, i.deadline
	ctx, cancel := context.WithCancel(i.ctx)
	l := &linker{cancel: cancel, done: make(chan struct{})}
	i.linker = l
	i.work.Add(1)
	go func() {
		defer i.work.Done()
		defer close(l.done)
		defer cancel()
		if before != nil {
			before.cancel()
			<-before.done
		}
		i.keepLink(ctx, boot, deadline)
	}()
}

func (i *instance) keepLink(ctx context.Context, boot int, deadline time.Time) {
	limited, cancel := context.WithDeadlineCause(ctx, deadline, errNoAnswer)
	defer cancel()
	link, err := i.connect(limited, boot)
	if err != nil {
		if errors.Is(context.Cause(limited), errNoAnswer) {
			err = i.noAnswer()
		}
		if ctx.Err() == nil {
			i.fail(err.Error())
		}
		return
	}
	defer link.Close()
	if boot > 0 {
		if err := i.reconfigure(ctx, link); err != nil && ctx.Err() == nil {
			i.vm.host.warn("vm `%s` after a reset: %v", i.vm.name, err)
		}
	}
	i.mu.Lock()
	current := i.boot == boot && i.ctx.Err() == nil
	if current {
		i.link, i.fruitless = link, 0
		close(i.linked)
	}
	i.mu.Unlock()
	if !current {
		return
	}
	select {
	case <-ctx.Done():
	case <-link.Done():
		if ctx.Err() == nil && i.isCurrent(boot) {
			i.fail(fmt.Sprintf("the agent is lost: %v", link.Err()))
		}
	}
}

// noAnswer says that no agent answered. A guest may have reset itself again and
// again meanwhile, e.g. because its kernel does not fit into its memory.
func (i *instance) noAnswer() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.fruitless > 1 {
		return fmt.Errorf("no agent answered within %v, in which the guest reset itself %d times", i.agentTimeout, i.fruitless)
	}
	return fmt.Errorf("no agent answered within %v", i.agentTimeout)
}

func (i *instance) isCurrent(boot int) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.boot == boot
}

var errNoAnswer = errors.New("no agent answered in time")

func (i *instance) connect(ctx context.Context, boot int) (*guest.Client, error) {
	select {
	case <-i.ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if i.made != nil && boot == 0 {
		return i.made, nil
	}
	conn, err := i.machine.DialAgent(ctx)
	if err != nil {
		return nil, err
	}
	cfg := guest.Config{Lost: i.whyLost}
	if i.plan.restored && boot == 0 {
		cfg.Resend = restoredResend
	}
	return guest.Connect(ctx, conn, cfg)
}

// whyLost finds the reason for the end of the agent's connection, which comes a
// moment before the reason is known: QEMU closes its sockets as it exits.
func (i *instance) whyLost(err error) error {
	select {
	case <-i.ctx.Done():
		return context.Cause(i.ctx)
	case <-time.After(lostPortGrace):
		return err
	}
}

// client returns the link, and waits while the guest reboots.
func (i *instance) client(ctx context.Context) (*guest.Client, error) {
	link, _, err := i.session(ctx)
	return link, err
}

// session is client. It also returns the epoch of what the agent holds.
func (i *instance) session(ctx context.Context) (*guest.Client, *handle.Epoch, error) {
	for {
		i.mu.Lock()
		link, linked, epoch := i.link, i.linked, i.epoch
		i.mu.Unlock()
		if link != nil {
			return link, epoch, nil
		}
		select {
		case <-linked:
		case <-i.ctx.Done():
			return nil, nil, context.Cause(i.ctx)
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

func (i *instance) currentEpoch() *handle.Epoch {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.epoch
}

func (i *instance) reset(ctx context.Context) error {
	i.mu.Lock()
	boot := i.boot
	i.mu.Unlock()
	if err := i.machine.Reset(ctx); err != nil {
		return err
	}
	// The event comes right after the reply; until then the old link stands.
	for {
		i.mu.Lock()
		again, linked, link := i.boot != boot, i.linked, i.link
		i.mu.Unlock()
		if again {
			_, err := i.client(ctx)
			return err
		}
		var wait <-chan struct{} = linked
		if link != nil {
			wait = link.Done() // failed by onReset
		}
		select {
		case <-wait:
		case <-i.ctx.Done():
			return context.Cause(i.ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (i *instance) wakeup(ctx context.Context) error {
	status, err := i.machine.Status(ctx)
	if err != nil {
		return err
	}
	if status != "suspended" {
		return errors.New("the guest is not suspended")
	}
	if !i.machine.CanWake() {
		return errors.New("the guest cannot be woken: QEMU puts a kernel that is an ELF vmlinux, or was unpacked to one, back as it was at boot; use a bzImage with LZ4 compression (CONFIG_KERNEL_LZ4)")
	}
	asleep, err := i.machine.Asleep(ctx)
	if err != nil {
		return err
	}
	if err := i.machine.Wakeup(ctx); err != nil {
		return err
	}
	// Whoever gives up now would leave the guest standing.
	sure, cancel := context.WithTimeout(context.WithoutCancel(ctx), contLimit)
	defer cancel()
	err = i.stopMachine(sure)
	if err == nil {
		err = i.machine.Awake(sure, asleep)
	}
	if err := errors.Join(err, i.contMachine(sure)); err != nil {
		return err
	}
	i.mu.Lock()
	i.suspended = false // the event says so in a moment
	i.mu.Unlock()
	return i.refreshNetwork(ctx)
}

func (i *instance) isSuspended() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.suspended
}

func (i *instance) setReason(reason string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.reason == "" {
		i.reason = reason
	}
}

// expectEnd says that the guest is about to end because a caller wants it to;
// unexpectEnd takes that back.
func (i *instance) expectEnd() {
	i.mu.Lock()
	i.expected = true
	i.mu.Unlock()
}

func (i *instance) unexpectEnd() {
	i.mu.Lock()
	i.expected = false
	i.mu.Unlock()
}

// ended tells whether the process is gone.
func (i *instance) ended() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

// fail stops QEMU with a reason, from goroutines that the end waits for.
func (i *instance) fail(reason string) {
	i.setReason(reason)
	select {
	case <-i.ready:
		i.machine.Kill()
	default: // QEMU is still starting; without an agent it will not get far
	}
}

// end stops QEMU with a reason and waits until everything about it is settled.
func (i *instance) end(reason string) {
	i.fail(reason)
	<-i.done
}
