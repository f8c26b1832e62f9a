package lab

import (
	"context"
	"errors"
	"slices"
	"time"

	"provium/internal/event"
	"provium/internal/instance"
	"provium/internal/lab/announce"
	"provium/internal/lab/shaped"
	"provium/internal/network"
	"provium/internal/qemu"
	"provium/internal/topology"
)

// guestRun is one run of a VM's guest: the instance, what it was started from, and its
// network devices.
type guestRun struct {
	*instance.Instance
	vm      *VM
	machine *qemu.Machine // the instance's
	plan    *startPlan
	netdevs *network.Netdevs
	use     string        // of the seed
	stood   time.Duration // for the last snapshot
	died    string        // why it ended by itself, guarded by the VM's lock

	began     time.Time // before QEMU was started
	announced announce.Guest
}

// startGuest starts the guest of a plan. releaseShare is called when nothing of it is left,
// unless there is an error.
func startGuest(ctx context.Context, v *VM, p *startPlan, agentTimeout time.Duration, releaseShare func()) (
	*guestRun, error) {
	i := &guestRun{vm: v, plan: p, announced: announce.Guest{VM: &v.news},
		netdevs: v.host.network().NewNetdevs(v, p.cfg.Dir), use: instance.UseOfBoot}
	if p.restored && p.boot == "" && (p.cfg.RNGSeed != nil || p.cfg.Shape.IsDeterministic()) {
		i.use = v.world.Uses.Next(v.name)
	}
	ahead := v.host.prewarmed.Take(ctx, instance.KeyOf(p.origin, p.cfg))
	cfg := *p.cfg
	cfg.Seed = shaped.SeedOfUse(cfg.Seed, i.use)
	var err error
	if ahead != nil {
		parts := ahead.Parts.(*shaped.Parts)
		i.netdevs.Adopt(parts.Netdevs, p.nics)
		p.drives = parts.Drives
	} else {
		err = i.connectDevices(&cfg)
	}
	v.host.prewarmed.CountRunning(+1)
	if err == nil {
		i.Instance, err = instance.Start(ctx, instance.Config{
			VM: v.name, QEMU: &cfg, AgentTimeout: agentTimeout,
			FairTimeout: p.opts.AgentTimeout == 0 && v.profile.AgentTimeout == 0,
			Restored:    p.restored, Epoch: p.mark.Restore(), Agents: &v.agents, Console: v.console, Oops: v.host.Oops,
			Hooks: i.hooks(releaseShare), Wait: v.condition(p.opts),
			NeedsAgent: p.restored || !v.agentIsOptional(p.opts), ReadyTimeout: v.readyTimeout(p.cfg.Accel),
			Use: i.use, Watch: v.watch(), Inspect: &v.inspect,
			Disks: v.disks,
		}, ahead)
	}
	if err != nil {
		v.host.prewarmed.CountRunning(-1)
		i.netdevs.Close()
		return nil, err
	}
	i.machine = i.Machine()
	return i, nil
}

// connectDevices makes the NICs and disks of a machine that is about to start.
func (i *guestRun) connectDevices(cfg *qemu.Config) (err error) {
	shaped.Pace(cfg, i.vm.world, i.netdevs, func(again bool) { i.Machine().JoinNetwork(again) })
	if cfg.NICs, err = i.netdevs.Create(i.plan.nics, i.plan.restored); err != nil {
		return err
	}
	if len(i.plan.disks) == 0 {
		return nil
	}
	if i.plan.drives, err = i.vm.host.diskEnv().OpenDrives(i.plan.disks, cfg.Dir); err == nil {
		i.plan.drives.Connect(cfg)
	}
	return err
}

func (i *guestRun) hooks(releaseShare func()) instance.Hooks {
	v := i.vm
	return instance.Hooks{
		Finding:      v.found,
		ExpectsPanic: func() bool { return i.plan.opts.ExpectPanic || v.host.expectsPanic() },
		Reset: func() {
			v.findings.Rebooted()
			v.disks.PowerOn()
		},
		Configure: i.reconfigure,
		Died:      func(reason string) { v.died(i, reason) },
		Printed:   v.news.Printed,
		Released:  func() { i.released(releaseShare) },
		Warn:      v.host.warn,
	}
}

// released is called when the instance is gone.
func (i *guestRun) released(releaseShare func()) {
	i.netdevs.Close()
	i.vm.host.prewarmed.CountRunning(-1)
	i.vm.mu.Lock()
	died := i.died
	i.vm.mu.Unlock()
	i.announced.Ended(died)
	releaseShare()
}

// firstAnswer waits for the agent and prepares the guest for operations.
func (i *guestRun) firstAnswer(ctx context.Context) error {
	err := i.AwaitBoot(ctx)
	if err == nil && !i.IsAgentless() {
		i.vm.news.Reached(event.StageAgent)
		err = i.AwaitReady(ctx)
	}
	var gone *instance.GoneError
	if errors.As(err, &gone) {
		return errors.New(gone.Reason)
	}
	if err != nil || i.IsAgentless() {
		return err
	}
	link, err := i.Client(ctx)
	if err != nil {
		return err
	}
	if i.plan.restored {
		return i.plan.renewal(i.use).Apply(ctx, link, i.machine)
	}
	if fixed := i.plan.guest.InitialTime; fixed != nil {
		err = instance.SetTime(ctx, link, *fixed)
	}
	return errors.Join(err, instance.SeedBoot(ctx, link, i.machine, i.use))
}

// renewal returns what makes the guest of a restore differ from others of its snapshot.
func (p *startPlan) renewal(use string) *instance.Renewal {
	own := slices.ContainsFunc(p.opts.Files, func(f topology.BootFile) bool { return f.Path == "/etc/machine-id" })
	return shaped.Renewal(p.cfg, &instance.Renewal{Seed: p.guest.RNGSeed, Use: use,
		FixedTime: p.guest.InitialTime != nil, MachineID: p.boot != "" && p.guest.MachineID && !own})
}

// may returns an error for an op that a deterministic guest would see.
func (i *guestRun) may(op string) error {
	if i == nil {
		return nil
	}
	return shaped.May(i.vm.name, op, i.plan.cfg.Shape)
}
