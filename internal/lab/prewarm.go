package lab

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"provium/internal/guest"
	"provium/internal/instance"
	"provium/internal/lab/shaped"
	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// Prepare restores a snapshot ahead of need, in the background: the next Restore of
// this file, by whatever VM of the same Host, takes what it has made and goes on from
// there. Of each snapshot one is kept, and no more than there are guests that run.
// Errors after the checks are left for Restore to report.
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
	if err == nil {
		defer p.release()
		v.host.prewarm(p, v.agentTimeout(p.opts, p.cfg.Accel))
	}
	return err
}

// restored counts a guest that was started from a snapshot. What is restored twice, or
// lasts, is likely to be restored again.
func (v *VM) restored(ctx context.Context, i *guestRun) {
	p, again := i.plan, v.host.snapshots.Restored(i.plan.origin) > 1
	if p.cfg.Vsock || !again && !v.wanted(p) && !v.host.Templates.IsAwaited(p.origin) {
		return // one that is stopped takes no connection by vsock
	}
	if !p.cfg.WritesDisks() && (p.leads || p.boot == "") {
		exercise := shaped.Exercise(&v.profile.Image, p.boot != "")
		v.host.Templates.Put(p.origin, i.Template(ctx, exercise), p.lasts)
	}
	if again && (p.boot == "" || len(p.cfg.Disks) == 0) { // a prewarmed guest does not have the VM's disks
		v.host.prewarm(p, v.agentTimeout(p.opts, p.cfg.Accel))
	}
}

// wanted reports whether a template of what the plan restores is likely to be wanted, though it is the first time.
func (v *VM) wanted(p *startPlan) bool {
	return p.boot == "" && p.lasts || p.boot != "" && v.host.Boots.Wants(p.boot, v.host.MoreFiles)
}

// lead waits for a template of a cached boot that another VM begins. If none comes of that, it is for this plan to make
// one, if it is wanted, until end is called.
func (v *VM) lead(ctx context.Context, p *startPlan, r *snapshot.Reader) (end func()) {
	if p.cfg.MayHaveTemplate() {
		ctx, cancel := context.WithTimeout(ctx, v.bootTimeout(p)/4) // as another boot of the same is worth
		defer cancel()
		if end := v.host.Templates.Lead(ctx, r.ID()); end != nil {
			p.leads = true
			return end
		}
	}
	return func() {}
}

// prewarm begins to restore the guest of a plan ahead of need.
func (h *Host) prewarm(p *startPlan, limit time.Duration) {
	if h.NoPrewarming || p.cfg.Shape.CountsInstructions() || h.Busy != nil && h.Busy() {
		return
	}
	renewal := p.renewal("") // the plan is the caller's
	h.prewarmed.Prepare(h.TempDir, instance.Order{
		Key: instance.KeyOf(p.origin, p.cfg), Limit: limit,
		Plan: func(dir string) (*qemu.Config, instance.Parts, error) { return h.planPrewarmed(p, dir) },
		Reseed: func(ctx context.Context, link *guest.Client) error {
			return renewal.Apply(ctx, link, nil)
		},
	})
}

// planPrewarmed describes a machine in dir, which has nothing of the plan's VM.
func (h *Host) planPrewarmed(p *startPlan, dir string) (*qemu.Config, instance.Parts, error) {
	cfg := *p.cfg
	parts := &shaped.Parts{Netdevs: h.network().NewNetdevs(nil, dir)}
	if len(p.opts.Files) > 0 { // the initrd is the VM's own
		cfg.Initrd = filepath.Join(dir, "initrd")
		if err := os.Link(p.cfg.Initrd, cfg.Initrd); err != nil {
			return nil, parts, err
		}
	}
	var err error
	if len(p.disks) > 0 { // copies of its own
		if parts.Drives, err = h.diskEnv().OpenDrives(p.disks, dir); err != nil {
			return nil, parts, err
		}
		parts.Drives.Connect(&cfg)
	}
	if cfg.NICs, err = parts.Netdevs.CreateUnbound(p.nics); err != nil {
		return nil, parts, err
	}
	cfg.Restore, err = shaped.Again(p.cfg.Restore, h.Templates.Get(p.origin))
	return &cfg, parts, err
}
