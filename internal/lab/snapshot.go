package lab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"provium/internal/disk"
	"provium/internal/guest/handle"
	"provium/internal/network"
	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// Snapshot is a snapshot of one VM: the file at a path.
type Snapshot struct {
	host        *Host
	path        string
	vm, profile string
	paused      time.Duration
	over        string
}

// Over is the path of the complete snapshot that this one, a delta, lies over; ""
// for one that is complete itself.
func (s *Snapshot) Over() string { return s.over }

// Paused is how long the guest stood still for it.
func (s *Snapshot) Paused() time.Duration { return s.paused }

// VM is the name that the VM had, Profile its profile's.
func (s *Snapshot) VM() string { return s.vm }

// Profile is the name of the VM's profile.
func (s *Snapshot) Profile() string { return s.profile }

// Path is the one file that holds everything.
func (s *Snapshot) Path() string { return s.path }

// Size is what it takes on disk, in bytes, holes not counted; 0 when it is gone.
func (s *Snapshot) Size() (int64, error) { return snapshot.DiskSize(s.path) }

// Delete removes the file. VMs that were restored from it are not concerned.
func (s *Snapshot) Delete() error {
	if id, err := snapshot.Identify(s.path); err == nil {
		s.host.prewarmed.Drop(id) // they keep the file's space on the disk
		if err := s.host.snapshots.Forget(id); err != nil {
			return fmt.Errorf("snapshot delete: %w", err)
		}
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("snapshot delete: %w", err)
	}
	return nil
}

// Sections of the file.
const (
	sectionState   = "state"   // of the devices, as QEMU wrote it
	sectionConsole = "console" // the log up to the snapshot
	sectionFiles   = "files"   // JSON of the boot files, for a later reset
	sectionNICs    = "nics"    // JSON of the network interfaces; absent without any
)

// freeze keeps operations on the VMs from starting, unless one is under way.
// what is the call that asks for it.
func freeze(what string, vms []*VM) (thaw func(), err error) {
	var live []string
	for _, v := range vms {
		for _, s := range v.Streams() {
			if text := "\n  - " + s.String(); !slices.Contains(live, text) {
				live = append(live, text)
			}
		}
	}
	if len(live) > 0 {
		return nil, &BusyError{what, fmt.Sprintf("file `%s` has live streams:%s\nclose them first", vms[0].host.File, strings.Join(live, ""))}
	}
	frozen := make(chan struct{})
	thawAll := func(vms []*VM) {
		for _, v := range vms {
			v.mu.Lock()
			v.frozen = nil
			v.mu.Unlock()
		}
		close(frozen)
	}
	for i, v := range vms {
		v.mu.Lock()
		if len(v.inFlight) > 0 {
			names := slices.Sorted(maps.Keys(v.inFlight))
			v.mu.Unlock()
			thawAll(vms[:i])
			return nil, &BusyError{what, fmt.Sprintf("vm `%s` has operations in flight:\n  - %s\nwait for their end first",
				v.name, strings.Join(names, "\n  - "))}
		}
		v.frozen = frozen
		v.mu.Unlock()
	}
	return func() { thawAll(vms) }, nil
}

// Snapshot freezes the VM, which then goes on, into a file at path; "" is one in
// the temporary directory of the run.
func (v *VM) Snapshot(ctx context.Context, path string) (*Snapshot, error) {
	return v.snapshot(ctx, path, func(string) bool { return false })
}

// SnapshotOver is Snapshot of a path, as a delta where what the guest was restored
// from is one of the files that lasts says will be there.
func (v *VM) SnapshotOver(ctx context.Context, path string, lasts func(path string) bool) (*Snapshot, error) {
	return v.snapshot(ctx, path, lasts)
}

func (v *VM) snapshot(ctx context.Context, path string, lasts func(path string) bool) (*Snapshot, error) {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	v.mu.Lock()
	state, inst := v.state, v.inst
	if state != Booted && state != Paused {
		defer v.mu.Unlock()
		return nil, v.stateErrorLocked("snapshot", Booted)
	}
	v.mu.Unlock()
	if inst.IsSuspended() {
		return nil, &SuspendedError{VM: v.name, Op: "snapshot"}
	}
	thaw, err := freeze("vm:snapshot()", []*VM{v})
	if err != nil {
		return nil, err
	}
	defer thaw()
	token := "" // the file is complete in itself
	if path == "" {
		path, token = v.host.snapshotPath(), rand.Text()
	}
	w, err := snapshot.Create(path, inst.plan.cfg.Memory)
	if err != nil {
		return nil, fmt.Errorf("vm `%s`: %w", v.name, err)
	}
	diff := inst.plan.restored && (token != "" || lasts(inst.plan.parent.Path))
	taken, err := inst.save(ctx, w, saving{running: state == Booted, diff: diff, disks: disk.Form{Token: token}})
	if err != nil {
		w.Abort()
		return nil, fmt.Errorf("vm `%s` snapshot: %w", v.name, err)
	}
	if err := inst.record(taken); err != nil {
		return nil, fmt.Errorf("vm `%s` snapshot: %w", v.name, err)
	}
	return &Snapshot{v.host, path, v.name, v.profile.Name, inst.stood, taken.base}, nil
}

// saving is how a snapshot is made.
type saving struct {
	running bool // the guest is stopped meanwhile
	diff    bool // if it pays
	disks   disk.Form
	valid   func() error // asked before the file is there; nil has nothing against it
}

// takenSnapshot is a complete file with what this process is to know of it.
type takenSnapshot struct {
	id    snapshot.FileID
	base  string // path of the full snapshot that a diff lies over; "" for a full one
	token string
	disks disk.Sealed // open, unless token is ""
}

// save writes the guest to w. record must follow, unless nobody is to know of the
// file and how.disks has no token.
func (i *guestRun) save(ctx context.Context, w *snapshot.Writer, how saving) (taken *takenSnapshot, err error) {
	if !how.diff {
		// What the guest does not change meanwhile is copied while it runs.
		if err := w.CopyRAM(i.machine.RAM()); err != nil {
			return nil, err
		}
	}
	var moment *frozenGuest
	if how.running {
		moment, err = i.stopped(ctx, w)
	} else {
		moment, err = i.capture(ctx, w)
	}
	if err != nil {
		return nil, err
	}
	base := ""
	if how.diff {
		if base, err = i.chooseForm(w, moment.changed); err != nil {
			return nil, errors.Join(err, moment.disks.Close())
		}
	}
	if how.valid != nil {
		if err := how.valid(); err != nil {
			return nil, errors.Join(err, moment.disks.Close())
		}
	}
	if taken, err = i.finish(w, moment, how.disks); err == nil {
		taken.base = base
	}
	return taken, err
}

// record makes the host know of a snapshot of this guest. It owns the disks.
func (i *guestRun) record(taken *takenSnapshot) error {
	t := snapshot.Taken[handle.Mark, disk.Sealed]{Epoch: i.Epoch().Mark(), Token: taken.token, Disks: taken.disks}
	if taken.base != "" && taken.token != "" { // nobody else knows of it
		t.BaseID, t.Base = i.plan.parent.ID, i.machine.RAM()
	}
	return i.vm.host.snapshots.Put(taken.id, t)
}

// finish writes what was captured, beside the RAM. It owns the disks, which stay
// open only in a snapshot with a token.
func (i *guestRun) finish(w *snapshot.Writer, moment *frozenGuest, form disk.Form) (taken *takenSnapshot, err error) {
	disks := moment.disks
	moment.disks = nil
	if err := i.writeSections(w, moment, disks, form); err != nil {
		return nil, errors.Join(err, disks.Close())
	}
	cfg := *i.plan.cfg
	cfg.NICs = network.Devices(moment.nics)
	cfg.Disks = disks.Devices()
	g := i.plan.guest
	g.ConsoleSearch = moment.search
	taken = &takenSnapshot{token: form.Token, disks: disks}
	taken.id, err = w.Commit(&snapshot.Manifest{Created: time.Now().UTC(), Guest: g,
		Machine: i.vm.hardware(&cfg, i.machine.Version())})
	if err != nil {
		return nil, errors.Join(err, disks.Close())
	}
	if form.Token == "" {
		taken.disks = nil
		return taken, disks.Close()
	}
	return taken, nil
}

// writeSections writes the sections of all devices.
func (i *guestRun) writeSections(w *snapshot.Writer, moment *frozenGuest, disks disk.Sealed, form disk.Form) error {
	if err := disks.Save(w, form); err != nil {
		return err
	}
	files, err := json.Marshal(i.plan.opts.Files)
	if err != nil {
		return err
	}
	if len(moment.nics) > 0 {
		text, err := network.EncodeNICs(moment.nics)
		if err != nil {
			return err
		}
		if err := w.PutSection(sectionNICs, text); err != nil {
			return err
		}
	}
	return errors.Join(
		w.PutSection(sectionState, moment.state),
		w.PutSection(sectionConsole, moment.console),
		w.PutSection(sectionFiles, files))
}

// stopped captures a running guest and has it go on.
func (i *guestRun) stopped(ctx context.Context, w *snapshot.Writer) (*frozenGuest, error) {
	if err := i.halt(ctx); err != nil {
		return nil, err
	}
	since := time.Now()
	moment, err := i.capture(ctx, w)
	err = errors.Join(err, i.goOn(ctx))
	i.stood = time.Since(since)
	if err != nil {
		if moment != nil {
			err = errors.Join(err, moment.disks.Close())
		}
		return nil, err
	}
	return moment, nil
}

// halt stops a running guest at a moment when nothing is under way on the link:
// the restored agent finds the next session at once.
func (i *guestRun) halt(ctx context.Context) error {
	link, err := i.Client(ctx)
	if err != nil {
		return err
	}
	// A round trip proves it.
	if err := link.Ping(ctx); err != nil {
		return err
	}
	// Whoever gives up now would not know whether the guest stands.
	sure, cancel := context.WithTimeout(context.WithoutCancel(ctx), contLimit)
	defer cancel()
	if err := i.stopMachine(sure); err != nil {
		return errors.Join(err, i.goOn(ctx))
	}
	return nil
}

// goOn ends what halt began, also when the caller does not want to wait any more.
func (i *guestRun) goOn(ctx context.Context) error {
	again, cancel := context.WithTimeout(context.WithoutCancel(ctx), contLimit)
	defer cancel()
	return i.contMachine(again)
}

// contLimit is how long QEMU may take to set a guest going after a snapshot.
const contLimit = 30 * time.Second

// frozenGuest is what of a stopped guest is no RAM.
type frozenGuest struct {
	state, console []byte
	search         int64
	disks          disk.Sealed
	nics           []network.PlannedNIC // some may have come while the guest ran
	changed        []snapshot.Range     // of a restored guest's memory, since then
}

// capture takes what a stopped guest is. RAM goes to w.
func (i *guestRun) capture(ctx context.Context, w *snapshot.Writer) (*frozenGuest, error) {
	g := &frozenGuest{}
	var err error
	if g.state, err = i.machine.SaveState(ctx); err != nil {
		return nil, err
	}
	if !i.plan.restored {
		err = w.CopyRAM(i.machine.RAM())
	} else {
		err = i.machine.DirtyRAM(ctx, func(at int64, p []byte) error {
			g.changed = snapshot.AppendRange(g.changed, at, int64(len(p)))
			return w.PutRAM(at, p)
		})
	}
	if err != nil {
		return nil, err
	}
	i.machine.SyncConsole()
	if g.console, g.search, err = i.vm.console.Content(); err != nil {
		return nil, err
	}
	g.nics = i.netdevs.Planned()
	g.disks, err = i.vm.disks.Seal()
	return g, err
}

func (v *VM) hardware(cfg *qemu.Config, version string) snapshot.Machine {
	h := cfg.Hardware()
	if h.Accel == "kvm" {
		h.CPU += " of " + qemu.HostCPU(v.host.AccelHost)
	}
	return snapshot.Machine{QEMU: version, Type: h.Type, CPU: h.CPU, Accel: h.Accel, Memory: h.Memory, CPUs: h.CPUs, Devices: h.Devices}
}

// Restore makes the VM the one that was saved at path.
func (v *VM) Restore(ctx context.Context, path string) error {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	v.mu.Lock()
	if v.state != Created && v.state != Shutdown {
		defer v.mu.Unlock()
		return v.stateErrorLocked("restore", Created)
	}
	v.mu.Unlock()
	if err := v.restoreFile(ctx, path); err != nil {
		return fmt.Errorf("vm `%s` restore: %w", v.name, err)
	}
	return nil
}

func (v *VM) restoreFile(ctx context.Context, path string) error {
	r, err := snapshot.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := v.host.snapshots.Verify(ctx, r); err != nil {
		return err
	}
	return v.restoreReader(ctx, r)
}

// restoreReader restores a verified snapshot. Held: the life cycle, and there is
// no guest.
func (v *VM) restoreReader(ctx context.Context, r *snapshot.Reader) error {
	m := r.Manifest().Machine
	giveBack, err := v.admit(ctx, m.Memory, m.CPUs)
	if err != nil {
		return err
	}
	plan, err := v.planRestore(ctx, r)
	if err != nil {
		giveBack()
		return err
	}
	defer plan.release()
	inst, err := v.startRestored(ctx, plan, giveBack)
	if err != nil {
		return errors.Join(err, plan.drives.Close())
	}
	if err := v.disks.Take(plan.drives, v.declaredDisks(v.opts)); err != nil {
		v.host.warn("vm `%s` restore: %v", v.name, err) // of the disks there were
	}
	if err := v.started(ctx, inst); err != nil {
		return err
	}
	v.restored(plan)
	return nil
}

// startRestored is start for a plan of planRestore.
func (v *VM) startRestored(ctx context.Context, p *startPlan, giveBack func()) (*guestRun, error) {
	if err := v.console.Replace(p.text, p.guest.ConsoleSearch); err != nil {
		giveBack()
		return nil, err
	}
	return v.start(ctx, p, giveBack)
}

// planRestore makes the plan for the guest of a snapshot, if the VM can be it.
func (v *VM) planRestore(ctx context.Context, r *snapshot.Reader) (*startPlan, error) {
	m := r.Manifest()
	g := m.Guest
	if g.Profile != v.profile.Name {
		return nil, fmt.Errorf("snapshot `%s` is of profile `%s`, the vm has profile `%s`", r.Path(), g.Profile, v.profile.Name)
	}
	if m.Machine.Memory != m.RAM || m.Machine.CPUs < 1 || m.Machine.CPUs > maxCPUs {
		return nil, fmt.Errorf("snapshot `%s` is damaged: %d bytes of memory in %d, %d cpus", r.Path(), m.Machine.Memory, m.RAM, m.Machine.CPUs)
	}
	opts := &BootOpts{Memory: m.Machine.Memory, CPUs: m.Machine.CPUs, Cmdline: &g.Cmdline, RNGSeed: g.RNGSeed, InitialTime: g.InitialTime}
	if v.opts != nil {
		opts.AgentTimeout = v.opts.AgentTimeout
	}
	text, err := r.Section(sectionFiles)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &opts.Files); err != nil {
		return nil, fmt.Errorf("snapshot `%s` is damaged: boot files: %w", r.Path(), err)
	}
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("snapshot `%s` is damaged: %w", r.Path(), err)
	}
	p, err := v.planBoot(ctx, opts, g.Image)
	if err != nil {
		return nil, err
	}
	if p.guest.Image != g.Image {
		return nil, fmt.Errorf("snapshot `%s` does not fit: the kernel, the initrd or the agent of profile `%s` has changed since it was taken", r.Path(), g.Profile)
	}
	// The command line is the one that booted, with everything in it.
	p.cfg.Cmdline = g.Cmdline
	p.guest = g
	if p.nics, err = v.savedNICs(r); err != nil {
		return nil, fmt.Errorf("snapshot `%s` is damaged: %w", r.Path(), err)
	}
	p.cfg.NICs = network.Devices(p.nics)
	if p.disks, err = disk.Load(r, &v.host.snapshots); err != nil {
		return nil, err
	}
	p.cfg.Disks = p.disks.Devices()
	if err := v.runFrom(ctx, p, r); err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

// runFrom makes p, which describes the machine, start from a snapshot of it.
func (v *VM) runFrom(ctx context.Context, p *startPlan, r *snapshot.Reader) (err error) {
	m := r.Manifest()
	fits := func(version string) error {
		here := v.hardware(p.cfg, version)
		if d := m.Machine.Differences(&here); len(d) > 0 {
			return fmt.Errorf("snapshot `%s` does not fit: %s", r.Path(), strings.Join(d, "; "))
		}
		return nil
	}
	// Only QEMU itself knows its version; all else is compared before it starts.
	if err := fits(m.Machine.QEMU); err != nil {
		return err
	}
	if p.text, err = r.Section(sectionConsole); err != nil {
		return err
	}
	state, ok := m.Sections[sectionState]
	if !ok {
		return fmt.Errorf("snapshot `%s` is damaged: it has no section %q", r.Path(), sectionState)
	}
	p.cfg.Restore = &qemu.Restore{File: r.File(), StateAt: state.Offset, StateLen: state.Length, Check: fits}
	p.parent = snapshot.Base{Path: r.Path(), ID: r.ID()}
	if m.Base != nil {
		changed, err := r.Changed()
		if err != nil {
			return err
		}
		if p.lower, err = v.host.snapshots.OpenBase(ctx, r); err != nil {
			return err
		}
		p.cfg.Restore.File, p.cfg.Restore.State, p.cfg.Restore.Changed = p.lower, r.File(), ranges(changed)
		p.parent = *m.Base
	}
	p.restored, p.origin, p.mark = true, r.ID(), v.host.snapshots.Epoch(r.ID())
	return nil
}
