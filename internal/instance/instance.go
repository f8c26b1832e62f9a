package instance

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/inspect"
	"provium/internal/kernelreport"
	"provium/internal/qemu"
	"provium/internal/ready"
)

// The types of what consoles show, for callers that see only this package.
type (
	Finding = kernelreport.Finding
	Rules   = kernelreport.Rules
)

// GoneError fails the operations that were in flight when their guest, or its present
// boot, ended.
type GoneError struct {
	VM     string
	Reason string
}

func (e *GoneError) Error() string { return fmt.Sprintf("vm `%s`: %s", e.VM, e.Reason) }

// GuestIsGone marks the error.
func (e *GoneError) GuestIsGone() {}

// Config describes an instance.
type Config struct {
	VM           string        // name, in errors
	QEMU         *qemu.Config  // Serial, HVC and OnEvent are set by Start
	AgentTimeout time.Duration // how long an agent may take to answer after a boot or reset
	// FairTimeout has AgentTimeout, which nobody has asked for, not count the time in which a loaded host left the
	// guest no CPU; see package deadline.
	FairTimeout bool
	// Grace is how long an agent's port may stay closed, or its connection broken,
	// before the agent counts as lost: going to sleep (S3) closes the port a moment
	// before QEMU says so, and a power-off a moment before QEMU ends. 0 is 5 s.
	Grace time.Duration
	// PanicGrace is how long the agent may take to prove that a guest lives whose kernel
	// seems to have panicked. 0 is 2 s.
	PanicGrace time.Duration
	// Watch has the limits after which a silent guest counts as dead.
	Watch    guest.Watch
	Restored bool           // the guest goes on from a snapshot
	Epoch    *handle.Epoch  // of what the agent holds
	Agents   *handle.Agents // of the VM
	Console  *Console       // of the VM
	Inspect  *inspect.Guest // what is known of the VM's guests from outside; nil: its own
	Oops     Rules          // guest failures to watch for
	Hooks    Hooks
	// Wait is what the boot waits for, and what a reset waits for.
	Wait ready.Condition
	// NeedsAgent has the boot wait for the agent, too, where Wait does not need it.
	NeedsAgent bool
	// ReadyTimeout is how long the guest may take for Wait. A negative one is of so long, and is as fair as
	// FairTimeout has it; 0 is AgentTimeout.
	ReadyTimeout time.Duration

	Use string // of the seed of the random device, which each boot of the guest begins anew
	// Disks are told when the vCPUs stop and go on; nil: the guest has no disk.
	Disks Disks
}

// Hooks are called as things happen to an instance. They must not block, unless they
// say otherwise. All are required.
type Hooks struct {
	// Finding is called for each failure that the guest's kernel has printed.
	Finding func(Finding)
	// ExpectsPanic reports whether a panic of the guest is expected: the guest then
	// reboots, or starts a crash kernel. Other panics end it.
	ExpectsPanic func() bool
	// Reset is called when the guest begins a further boot.
	Reset func()
	// Configure prepares the guest of a further boot for operations. It may block.
	Configure func(context.Context, *guest.Client) error
	// Died is called when the guest has ended and nobody has said that it would.
	Died func(reason string)
	// Printed is called with what the guest has printed, in whole lines.
	Printed func(text []byte)
	// Released is called last: nothing of the instance is left. It may block.
	Released func()
	// Warn is called for failures that fail no operation.
	Warn func(format string, args ...any)
}

// Instance is one boot of a VM. It is safe for concurrent use.
type Instance struct {
	cfg     Config
	machine *qemu.Machine
	watch   *watch
	warm    *Prewarmed // what it was made of; nil for a machine of its own

	ready  chan struct{}   // closed when machine is set
	ctx    context.Context // ends with the instance
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // linkers
	done   chan struct{}  // closed when the process is gone and the VM knows
	holds  sync.Mutex     // held while QEMU is told what to do where the guest ends

	mu        sync.Mutex
	boot      int           // counts boots: resets and reboots of the guest
	epoch     *handle.Epoch // of what the agent holds
	link      *guest.Client // nil while no agent answers
	linked    chan struct{} // closed when link is set, or the instance ended
	linker    *linker       // makes, or keeps, the link of this boot
	answerBy  *answerLimit  // ends the guest if no agent answers; resets do not move it
	fruitless int           // resets by the guest since the last link
	boots     int           // those of them before which the guest had printed something
	printed   int64         // length of the console at the last reset
	first     int64         // length of the console when the wait for an agent began
	answered  bool          // an agent has answered since Start
	waited    bool          // what the boot waits for has come, and that is not an agent
	refused   error         // why the last attempt at an optional agent failed
	panic     string        // the expected panic since the last link
	panicked  bool          // that panic ended a link, and no reset has followed
	crashed   bool          // that panic, or an earlier one, was since the last reset
	served    bool          // an agent has answered since the last reset
	kernelLog kernelLog
	check     *panicCheck // of a panic that is not known to be one; else nil
	ended     *standstill // the last end of a boot at which the machine stood still, or stands
	resend    bool        // what is sent to the next agent first may be lost
	expected  bool        // the caller ends the guest and settles what follows
	powerOff  bool        // unless it panics, or its QEMU fails
	reason    string      // why it ended; the first one counts
	suspended bool
	searched  time.Duration // how long the agent had not answered when the log was last searched for a panic
	closed    *closedPort   // while the agent's port is closed and there is a link
	portOpen  bool          // the guest has opened the agent's port, as far as is known
	portShut  bool          // the port was closed since the agent of the link opened it
	linkedAt  int64         // the length of the console at the link's start
	halting   bool          // the console has said that the guest halts, which is being looked at
	holding   bool          // the machine of a recorded guest is to stand still where the guest ends
	mayStand  bool          // it was so once
	stopped   bool          // a caller has stopped the vCPUs, or is about to
	lost      bool          // the last agent closed its port; no other one has answered yet

	reboots  int           // how often the guest got another agent
	awaited  int           // of them those that WaitReboot does not wait for
	rebooted chan struct{} // closed at the next of them
}

// Start starts the machine of cfg, or goes on with one that was made ahead of need.
// It returns when QEMU runs; Client waits for the agent. The caller must call End, or
// wait for Done.
func Start(ctx context.Context, cfg Config, warm *Prewarmed) (*Instance, error) {
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	if cfg.PanicGrace == 0 {
		cfg.PanicGrace = panicGrace
	}
	if cfg.Inspect == nil {
		cfg.Inspect = &inspect.Guest{}
	}
	i := &Instance{cfg: cfg, epoch: cfg.Epoch, ready: make(chan struct{}), done: make(chan struct{}),
		linked: make(chan struct{}), rebooted: make(chan struct{})}
	i.ctx, i.cancel = context.WithCancelCause(context.Background())
	i.watch = newWatch(i)
	if warm != nil {
		i.adopt(warm)
	} else {
		own := *cfg.QEMU
		own.Serial, own.HVC, own.OnEvent = i.watch.device(deviceSerial), i.watch.device(deviceHVC), i.onEvent
		own.OnExit = func(m *qemu.Machine) {
			i.setReason(howEnded(m))
			i.keep(m, false)
		}
		var err error
		if i.machine, err = qemu.Start(ctx, own); err != nil {
			i.cancel(err)
			return nil, err
		}
	}
	cfg.Inspect.Began(i.machine)
	i.disks().BeforeFlush(i.machine.Monitor().SyncEvents) // which say that the machine stands still
	close(i.ready)
	if cfg.Restored {
		i.skipKernelLog()
	}
	i.mu.Lock()
	if i.reason != "" {
		i.machine.Kill() // it failed while QEMU was starting
	}
	i.mu.Unlock()
	go i.supervise()
	i.mu.Lock()
	i.resend = cfg.Restored
	i.expectAnswer()
	i.relink()
	i.mu.Unlock()
	return i, nil
}

// supervise waits for the end of the process and tells everybody.
func (i *Instance) supervise() {
	<-i.machine.Done()
	i.lastWords()
	i.awaitChecks() // who finds the guest dead finds its report
	i.cfg.Console.log.End()
	i.cfg.Inspect.Ended(i.machine)
	i.mu.Lock()
	i.setReasonLocked(howEnded(i.machine))
	reason, expected, powerOff, link := i.reason, i.expected, i.powerOff, i.link
	i.portOpened()
	i.answerBy.stop()
	i.mu.Unlock()
	// The state first: who is told that the guest is gone finds it dead.
	if !expected || powerOff && i.endedBadly(reason) {
		i.cfg.Hooks.Died(reason)
	}
	gone := &GoneError{VM: i.cfg.VM, Reason: reason}
	if link != nil {
		link.Fail(gone) // before its linker closes it without a reason
	}
	i.cancel(gone)
	i.work.Wait()
	if i.warm != nil {
		_ = os.RemoveAll(i.warm.dir) // with the run's directory, if not now
	}
	i.cfg.Hooks.Released()
	close(i.done)
}

// endedBadly reports whether the reason of an end is a panic, or a QEMU that has failed.
func (i *Instance) endedBadly(reason string) bool {
	_, failed := i.machine.Exit()
	return strings.HasPrefix(reason, panicked) || failed != nil && reason == howEnded(i.machine)
}

// howEnded says how a QEMU has ended.
func howEnded(m *qemu.Machine) string {
	stderr, err := m.Exit()
	switch {
	case err == nil:
		return "qemu ended"
	case stderr == "":
		return err.Error()
	}
	return err.Error() + ": " + stderr
}

// Machine returns the QEMU process.
func (i *Instance) Machine() *qemu.Machine { return i.machine }

// Done is closed when the process is gone and every hook was called.
func (i *Instance) Done() <-chan struct{} { return i.done }

// IsSuspended reports whether the guest is in suspend-to-RAM.
func (i *Instance) IsSuspended() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.suspended
}

// SetAwake records that the guest was woken; QEMU's event says so a moment later.
func (i *Instance) SetAwake() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.suspended = false
}

func (i *Instance) setReason(reason string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.setReasonLocked(reason)
}

// setReasonLocked is setReason for a caller that holds i.mu.
func (i *Instance) setReasonLocked(reason string) {
	if i.reason == "" {
		i.reason = reason
	}
}

// Expect says whether the guest is about to end because a caller wants it to: Died is
// not called then.
func (i *Instance) Expect(end bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.expected, i.powerOff = end, false
}

// ExpectPowerOff is Expect(true) for a guest that is to power off: Died is called if it panics, or its QEMU fails.
func (i *Instance) ExpectPowerOff() {
	i.lookBack()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.expected, i.powerOff = true, true
}

// IsOver reports whether Done is closed.
func (i *Instance) IsOver() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

// fail stops QEMU with a reason, from goroutines that the end waits for.
func (i *Instance) fail(reason string) {
	i.setReason(reason)
	select {
	case <-i.ready:
		i.keep(i.machine, false)
	default:
	}
	i.kill()
}

// keep keeps the kernel's log of a guest that ends without a caller's wish. isStuck says that it
// gives no sign of life.
func (i *Instance) keep(m *qemu.Machine, isStuck bool) {
	i.mu.Lock()
	expected := i.expected
	i.mu.Unlock()
	if !expected {
		i.cfg.Inspect.Keep(i.ctx, m, isStuck)
	}
}

// kill ends QEMU. One that is still starting is ended by Start.
func (i *Instance) kill() {
	select {
	case <-i.ready:
		i.machine.Kill()
	default:
	}
}

// End stops QEMU with a reason and returns when Done is closed.
func (i *Instance) End(reason string) {
	i.lookBack()
	i.fail(reason)
	<-i.done
}

// SyncConsole delivers all that the guest has printed so far, and the failure reports
// in it and in the log of its kernel.
func (i *Instance) SyncConsole() {
	i.machine.SyncConsole()
	i.readKernelLog()
	i.watch.pause()
	i.awaitChecks()
}
