package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"provium/internal/disk"
	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/inspect"
	"provium/internal/instance"
	"provium/internal/lab/announce"
	"provium/internal/lab/shaped"
	"provium/internal/lab/visit"
	"provium/internal/qemu"
	"provium/internal/topology"
)

// VM is one virtual machine of a test. It outlives its guests: each boot starts a new
// one.
type VM struct {
	handle.Actor // commands, files and system calls of the agent

	host    *Host
	world   *shaped.World
	name    string
	profile *Profile
	opts    *topology.BootOpts // given at declaration

	life chan struct{} // has a token while a life-cycle call is under way

	mu       sync.Mutex
	state    topology.State
	reason   string // why it is dead
	inst     *guestRun
	cid      uint32 // of the last guest
	dir      string
	console  *instance.Console
	findings instance.Findings
	inFlight map[string]int // operations under way, by name
	frozen   chan struct{}  // while a snapshot is taken: closed at its end
	holders  int            // labs that hold this VM
	visits   visit.Visits

	disks *disk.Shelf

	opened handle.Opened // what is open in its guests
	agents handle.Agents // that have answered in its guests

	inspect inspect.Guest

	expendable bool
	news       announce.VM
}

func newVM(h *Host, w *shaped.World, name string, p *Profile, opts *topology.BootOpts) *VM {
	v := &VM{host: h, world: w, name: name, profile: p, opts: opts, state: topology.Created,
		life: make(chan struct{}, 1), inFlight: map[string]int{},
		news: announce.VM{Emit: h.emit, File: h.File, Name: name, Profile: p.Name, Source: p.Source}}
	v.Actor = handle.NewActor(v)
	v.disks = disk.NewShelf(h.diskEnv(), v)
	v.inspect.Places, v.inspect.DumpDir = &h.places, h.DumpDir
	return v
}

// Hold adds n to the number of labs that hold v and returns that number.
func (v *VM) Hold(n int) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.holders += n
	return v.holders
}

// Name returns the name given at declaration.
func (v *VM) Name() string { return v.name }

// Inspect returns what is known of the guest from outside, also of one that has ended.
func (v *VM) Inspect() *inspect.Guest { return &v.inspect }

// Expendable reports whether the guest may die without failing the test, as the guests
// of crash checkers may.
func (v *VM) Expendable() bool { return v.expendable }

// Profile returns the name of the profile.
func (v *VM) Profile() string { return v.profile.Name }

// IsAgentless reports whether the guest runs without an agent, for which its boot did not
// wait.
func (v *VM) IsAgentless() bool {
	v.mu.Lock()
	inst := v.inst
	v.mu.Unlock()
	return inst != nil && inst.IsAgentless()
}

// NotesWarnings reports whether warnings of the guest's kernel fail nothing.
func (v *VM) NotesWarnings() bool { return v.profile.NoteWarnings }

// State returns the present state.
func (v *VM) State() topology.State {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.state
}

// CID returns a number that no other running VM of the host has, the process id of its
// QEMU or, with vsock, its CID. It returns false before the first boot.
func (v *VM) CID() (uint32, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cid, v.cid != 0
}

// stateError returns the error that op needs another state.
func (v *VM) stateError(op string, need topology.State) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stateErrorLocked(op, need)
}

func (v *VM) stateErrorLocked(op string, need topology.State) error {
	return &topology.StateError{VM: v.name, Op: op, State: v.state, Need: need, Reason: v.reason}
}

// lifecycle acquires the VM for one life-cycle call.
func (v *VM) lifecycle(ctx context.Context) (release func(), err error) {
	select {
	case v.life <- struct{}{}:
		return func() { <-v.life }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// running returns the guest when the VM is in state need.
func (v *VM) running(op string, need topology.State) (*guestRun, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state != need {
		return nil, v.stateErrorLocked(op, need)
	}
	return v.inst, v.inst.may(op)
}

// inState returns the state and the guest when the state is one of those allowed. The
// error says that op is for state need.
func (v *VM) inState(op string, need topology.State, allowed ...topology.State) (topology.State, *guestRun, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !slices.Contains(allowed, v.state) {
		return v.state, nil, v.stateErrorLocked(op, need)
	}
	return v.state, v.inst, v.inst.may(op)
}

// serving returns the guest when operations of a test can run on it.
func (v *VM) serving(op string) (*guestRun, error) {
	inst, err := v.running(op, topology.Booted)
	if err == nil && v.host.Local {
		return nil, errNoGuest
	}
	return inst, err
}

// Boot boots the guest and returns when its agent answers. opts go before those of the
// declaration, for this boot only.
func (v *VM) Boot(ctx context.Context, opts *topology.BootOpts) error { return v.boot(ctx, opts, nil) }

// boot is Boot. releaseShare releases a share of the pool that was acquired before, and
// is nil where there is none. The caller releases it when boot fails.
func (v *VM) boot(ctx context.Context, opts *topology.BootOpts, releaseShare func()) error {
	if opts != nil {
		if err := opts.Validate(); err != nil {
			return err
		}
	}
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	if _, _, err := v.inState("boot", topology.Created, topology.Created, topology.Shutdown); err != nil {
		return err
	}
	merged := v.opts.Merge(opts)
	if err := v.declareDisks(ctx, merged); err != nil {
		return fmt.Errorf("vm `%s` boot: %w", v.name, err)
	}
	return v.bootGuest(ctx, merged, releaseShare)
}

// prepareDir creates the VM's directory and console log at its first boot. The caller
// must hold the life cycle.
func (v *VM) prepareDir() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.console != nil {
		return os.MkdirAll(v.dir, 0o700) // the VM was closed since then
	}
	dir, err := v.host.vmDir()
	if err != nil {
		return err
	}
	console, err := instance.CreateConsole(filepath.Join(dir, "console.log"), v.name)
	if err != nil {
		return err
	}
	v.dir, v.console = dir, console
	return nil
}

// Pause stops the vCPUs.
func (v *VM) Pause(ctx context.Context) error {
	return v.transition(ctx, "pause", topology.Booted, topology.Paused, func(i *guestRun) error {
		return i.StopVCPUs(ctx)
	})
}

// Resume starts the vCPUs again. The guest's clock goes on where it stood.
func (v *VM) Resume(ctx context.Context) error {
	return v.transition(ctx, "resume", topology.Paused, topology.Booted, func(i *guestRun) error {
		if err := i.StartVCPUs(ctx); err != nil {
			return err
		}
		return i.refreshNetwork(ctx)
	})
}

// transition carries out do in state from. The VM is in state to then, unless the guest
// ended meanwhile.
func (v *VM) transition(ctx context.Context, op string, from, to topology.State, do func(*guestRun) error) error {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	inst, err := v.running(op, from)
	if err != nil {
		return err
	}
	if err := do(inst); err != nil {
		return fmt.Errorf("vm `%s` %s: %w", v.name, op, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state != from {
		return v.stateErrorLocked(op, from)
	}
	v.state = to
	return nil
}

// DebugFile returns the path of a file with the symbols of the profile's kernel, "" for none.
func (v *VM) DebugFile() string {
	if v.profile.DebugFile == nil {
		return ""
	}
	return v.profile.DebugFile()
}

// OnMachine calls do with the machine of a guest that runs or is paused. No snapshot, boot or
// end of the test's making happens meanwhile.
func (v *VM) OnMachine(ctx context.Context, op string, do func(*qemu.Machine) error) error {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	_, inst, err := v.inState(op, topology.Booted, topology.Booted, topology.Paused)
	if err != nil {
		return err
	}
	if v.host.Local {
		return fmt.Errorf("vm:%s: the local VMM has no QEMU", op)
	}
	if err := do(inst.machine); err != nil {
		return fmt.Errorf("vm `%s`: %w", v.name, err)
	}
	return nil
}

// Reset presses the reset button and returns when the new agent serves.
func (v *VM) Reset(ctx context.Context) error {
	return v.transition(ctx, "reset", topology.Booted, topology.Booted, func(i *guestRun) error { return i.Reset(ctx) })
}

// WaitReboot waits until the guest has rebooted by itself and its agent answers, as
// instance.WaitReboot does; a negative limit is the time that an agent has after a boot.
func (v *VM) WaitReboot(ctx context.Context, limit time.Duration) error {
	inst, err := v.serving("wait_reboot")
	if err != nil {
		return err
	}
	return inst.WaitReboot(ctx, limit)
}

// Wakeup wakes the guest from suspend-to-RAM.
func (v *VM) Wakeup(ctx context.Context) error {
	return v.transition(ctx, "wakeup", topology.Booted, topology.Booted, func(i *guestRun) error {
		if err := i.WakeUp(ctx); err != nil {
			return err
		}
		return i.refreshNetwork(ctx)
	})
}

// PowerButton presses the ACPI power button and waits until the guest has powered off. It fails if the guest panics.
// After timeout the guest is ended, and graceful is false.
func (v *VM) PowerButton(ctx context.Context, timeout time.Duration) (graceful bool, err error) {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	inst, err := v.running("power_button", topology.Booted)
	if err != nil {
		return false, err
	}
	inst.ExpectPowerOff()
	if err := inst.machine.PowerDown(ctx); err != nil && !inst.IsOver() {
		inst.Expect(false)
		return false, fmt.Errorf("vm `%s` power_button: %w", v.name, err)
	}
	select {
	case <-inst.Done():
		if inst.died != "" {
			return false, fmt.Errorf("vm `%s` power_button: %s", v.name, inst.died)
		}
		graceful = true
	case <-time.After(timeout):
	case <-ctx.Done():
		inst.Expect(false)
		return false, context.Cause(ctx)
	}
	inst.End("power button")
	v.clearGuest(topology.Shutdown)
	return graceful, nil
}

// Shutdown ends the guest at once, in whatever state it is, if there is one.
func (v *VM) Shutdown(ctx context.Context) error {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	v.mu.Lock()
	inst := v.inst
	v.mu.Unlock()
	if inst != nil {
		inst.Expect(true)
		inst.End("the vm was shut down")
	}
	v.clearGuest(topology.Shutdown)
	return nil
}

// clearGuest records that the VM has no guest and is in state s.
func (v *VM) clearGuest(s topology.State) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state, v.reason, v.inst = s, "", nil
}

// watch returns how the links of the VM's guests watch over operations.
func (v *VM) watch() guest.Watch {
	w := v.host.Watch
	if v.profile.OpTimeout > 0 {
		w.Limit, w.LimitAsked = v.profile.OpTimeout, true
	}
	return w
}

// IsSilent reports whether the guest runs and shows no sign of life. Unless it is heard, it is dead seconds later.
func (v *VM) IsSilent(ctx context.Context) bool {
	inst, err := v.running("ping", topology.Booted)
	return err == nil && inst.IsSilent(ctx)
}

// Hindered returns how long, in all, its guest has waited for a CPU of the host.
func (v *VM) Hindered() time.Duration {
	inst, err := v.running("ping", topology.Booted)
	if err != nil {
		return 0
	}
	return inst.Hindered()
}

// Close shuts the VM down and removes its directory. Its console log stays readable.
// A guest that cannot be shut down in time is killed.
func (v *VM) Close(ctx context.Context) error {
	err := v.Shutdown(ctx)
	v.host.running.Delete(v)
	v.mu.Lock()
	inst := v.inst
	v.mu.Unlock()
	if err != nil && inst != nil {
		inst.Expect(true)
		inst.End("the vm was closed")
		v.clearGuest(topology.Shutdown)
	}
	err = errors.Join(err, v.disks.Close())
	v.mu.Lock()
	dir, console := v.dir, v.console
	v.mu.Unlock()
	if dir == "" {
		return err
	}
	err = errors.Join(err, console.Park(dir+"-console.log"))
	if e := os.RemoveAll(dir); e != nil {
		err = errors.Join(err, fmt.Errorf("vm directory: %w", e))
	}
	return err
}

// died records that a guest ended unexpectedly.
func (v *VM) died(inst *guestRun, reason string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	inst.died = reason
	if v.inst == inst {
		v.state, v.reason, v.inst = topology.Dead, reason, nil
	}
}

// TakeFindings returns what the guest's kernel has reported since the last call, up to now.
func (v *VM) TakeFindings() []instance.Finding {
	v.mu.Lock()
	inst := v.inst
	v.mu.Unlock()
	if inst != nil {
		inst.SyncConsole()
		v.findings.Drop(inst.IsOfProgram)
	}
	v.news.AwaitReports()
	return v.findings.Take()
}

// found takes a report of the guest's kernel.
func (v *VM) found(f instance.Finding) {
	if v.findings.Add(f) || f.Expected {
		v.host.found(v, f)
	}
}
