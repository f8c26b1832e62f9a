package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"provium/internal/lab/shaped"
	"provium/internal/network"
	"provium/internal/qemu"
	"provium/internal/snapshot"
	"provium/internal/topology"
)

// Restore makes the VM continue as the one that was saved at path.
func (v *VM) Restore(ctx context.Context, path string) error { return v.restore(ctx, path, nil) }

// restore is Restore. releaseShare is as in boot.
func (v *VM) restore(ctx context.Context, path string, releaseShare func()) error {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	if _, _, err := v.inState("restore", topology.Created, topology.Created, topology.Shutdown); err != nil {
		return err
	}
	if err := v.restoreFile(ctx, path, releaseShare); err != nil {
		return fmt.Errorf("vm `%s` restore: %w", v.name, err)
	}
	return nil
}

func (v *VM) restoreFile(ctx context.Context, path string, releaseShare func()) error {
	r, err := snapshot.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := v.host.snapshots.Verify(ctx, r); err != nil {
		return err
	}
	return v.restoreReader(ctx, r, releaseShare)
}

// restoreReader restores a verified snapshot. The caller must hold the life cycle, and
// there must be no guest. releaseShare is as in boot.
func (v *VM) restoreReader(ctx context.Context, r *snapshot.Reader, releaseShare func()) (err error) {
	done := v.news.Booting()
	defer func() { done(err) }()
	if releaseShare == nil {
		if releaseShare, err = v.admit(ctx, restoreShare(r)); err != nil {
			return err
		}
	}
	plan, err := v.planRestore(ctx, r)
	if err != nil {
		releaseShare()
		return err
	}
	defer plan.release()
	inst, err := v.startRestored(ctx, plan, releaseShare)
	if err != nil {
		return errors.Join(err, plan.drives.Close())
	}
	if err := v.disks.Take(plan.drives, v.declaredDisks(v.opts)); err != nil {
		v.host.warn("vm `%s` restore: %v", v.name, err) // of the disks there were
	}
	if err := v.started(ctx, inst); err != nil {
		return err
	}
	v.restored(ctx, inst)
	return nil
}

// startRestored is start for a plan of planRestore.
func (v *VM) startRestored(ctx context.Context, p *startPlan, releaseShare func()) (*guestRun, error) {
	if err := v.console.Replace(p.text, p.guest.ConsoleSearch); err != nil {
		releaseShare()
		return nil, err
	}
	return v.start(ctx, p, releaseShare)
}

// planRestore makes the plan for the guest of a snapshot, or returns why the VM cannot
// be it. The plan must be released.
func (v *VM) planRestore(ctx context.Context, r *snapshot.Reader) (p *startPlan, err error) {
	m := r.Manifest()
	g := m.Guest
	if g.Profile != v.profile.Name {
		return nil, fmt.Errorf("snapshot `%s` is of profile `%s`, the vm has profile `%s`",
			r.Path(), g.Profile, v.profile.Name)
	}
	if m.Machine.Memory != m.RAM || m.Machine.CPUs < 1 || m.Machine.CPUs > topology.MaxCPUs {
		return nil, damaged(r, fmt.Errorf("%d bytes of memory in %d, %d cpus", m.Machine.Memory, m.RAM, m.Machine.CPUs))
	}
	opts := &topology.BootOpts{Memory: m.Machine.Memory, CPUs: m.Machine.CPUs, Cmdline: &g.Cmdline,
		RNGSeed: g.RNGSeed, InitialTime: g.InitialTime}
	if v.opts != nil {
		opts.AgentTimeout, opts.ExpectPanic = v.opts.AgentTimeout, v.opts.ExpectPanic
	}
	saved, err := v.loadSections(r, sections())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			saved.disks.Release()
		}
	}()
	opts.Files = saved.files
	opts.Shape = g.Shape
	opts.Shape.Args = nil // compared below
	// A file of somebody else's must not say what QEMU is told.
	if own := v.opts.Merge(nil).Shape.Args; !slices.Equal(g.Shape.Args, slices.Concat(v.profile.Shape.Args, own)) {
		return nil, fmt.Errorf("snapshot `%s` is of a machine with qemu_args `%s`; give them in the profile, or where "+
			"the vm is declared", r.Path(), strings.Join(g.Shape.Args, " "))
	}
	if g.Shape.IsFromDisk() {
		opts.Cmdline = nil
	}
	if err := opts.Validate(); err != nil {
		return nil, damaged(r, err)
	}
	if p, err = v.planBoot(ctx, opts, g.Image); err != nil {
		return nil, err
	}
	if p.guest.Image != g.Image {
		return nil, fmt.Errorf("snapshot `%s` does not fit: the kernel, the initrd or the agent of profile `%s` "+
			"has changed since it was taken", r.Path(), g.Profile)
	}
	// The command line is the one that booted, with everything in it.
	p.cfg.Cmdline, p.cfg.Shape = g.Cmdline, g.Shape
	p.guest = g
	p.nics, p.disks = saved.nics, saved.disks
	p.cfg.NICs, p.cfg.Disks = network.Devices(p.nics), p.disks.Devices()
	return p, v.runFrom(ctx, p, r, saved)
}

// runFrom completes p, which describes the machine, to start from a snapshot of it.
func (v *VM) runFrom(ctx context.Context, p *startPlan, r *snapshot.Reader, saved *savedGuest) error {
	m := r.Manifest()
	fits := func(version string) error {
		here := shaped.Hardware(p.cfg, v.host.AccelHost, version)
		if d := m.Machine.Differences(&here); len(d) > 0 {
			return fmt.Errorf("snapshot `%s` does not fit: %s", r.Path(), strings.Join(d, "; "))
		}
		return nil
	}
	// Only QEMU itself knows its version; all else is compared before it starts.
	if err := fits(m.Machine.QEMU); err != nil {
		return err
	}
	p.text = saved.console
	p.cfg.Restore = &qemu.Restore{Check: fits, StateAt: saved.state.Offset, StateLen: saved.state.Length}
	p.base = snapshot.Base{Path: r.Path(), ID: r.ID()}
	if m.Base != nil {
		changed, err := r.Changed()
		if err != nil {
			return err
		}
		if p.baseFile, err = v.host.snapshots.OpenBase(ctx, r, v.host.TempDir); err != nil {
			return err
		}
		p.cfg.Restore.File, p.cfg.Restore.State, p.cfg.Restore.Changed = p.baseFile, r.File(), shaped.Ranges(changed)
		p.base = *m.Base
	} else {
		file, err := r.Mappable(v.host.TempDir)
		if err != nil {
			return err
		}
		p.cfg.Restore.File = file
	}
	p.cfg.Restore.Template = v.host.Templates.Get(r.ID())
	p.lasts = v.host.MoreFiles && !strings.HasPrefix(r.Path(), v.host.TempDir)
	// Once the guest goes on, its disks are no longer what they were.
	if p.cfg.Restore.Template == nil && p.cfg.WritesDisks() && (v.wanted(p) || v.host.snapshots.Restores(r.ID()) > 0) {
		p.cfg.Restore.Keep = func(t *qemu.Template) { v.host.Templates.Put(p.origin, t, p.lasts) }
	}
	p.restored, p.origin, p.mark = true, r.ID(), v.host.snapshots.Epoch(r.ID())
	return nil
}
