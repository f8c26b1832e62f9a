package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"provium/internal/admission"
	"provium/internal/disk"
	"provium/internal/event"
	"provium/internal/guest/handle"
	"provium/internal/image"
	"provium/internal/instance"
	"provium/internal/lab/shaped"
	"provium/internal/network"
	"provium/internal/qemu"
	"provium/internal/snapshot"
	"provium/internal/topology"
)

// startPlan describes a guest before it is started.
type startPlan struct {
	opts     *topology.BootOpts
	cfg      *qemu.Config
	guest    snapshot.Guest
	restored bool            // from a snapshot, not booted
	boot     string          // of a cached boot: its key in the cache
	lasts    bool            // other files will use that, too
	leads    bool            // a template of a cached boot is to be made of the guest
	origin   snapshot.FileID // of that snapshot
	base     snapshot.Base   // the full snapshot that its memory lies in: that one, or its base
	baseFile *os.File        // the base of a diff, until the guest runs
	text     []byte          // console log that came with it
	nics     []network.PlannedNIC
	disks    disk.Plan   // of a restore
	drives   disk.Drives // made from disks for this start
	mark     handle.Mark // what the agent held at the snapshot
}

// release releases what the plan holds. A guest that was started from it goes on.
func (p *startPlan) release() {
	p.disks.Release()
	p.disks = nil
	if p.baseFile != nil {
		p.baseFile.Close()
		p.baseFile = nil
	}
}

// bootGuest boots the VM, or serves the boot from the cache. releaseShare is nil for a
// guest whose share of the pool is still to be acquired.
func (v *VM) bootGuest(ctx context.Context, opts *topology.BootOpts, releaseShare func()) (err error) {
	done := v.news.Booting()
	defer func() { done(err) }()
	if releaseShare == nil {
		if releaseShare, err = v.admit(ctx, v.bootShare(opts)); err != nil {
			return fmt.Errorf("vm `%s` boot: %w", v.name, err)
		}
	}
	plan, err := v.planBoot(ctx, opts, "")
	if err == nil {
		plan.cfg.Disks, err = v.disks.Devices(v.dir)
	}
	if err != nil {
		releaseShare()
		return fmt.Errorf("vm `%s` boot: %w", v.name, err)
	}
	v.console.MarkBoot()
	cached := v.cacheable(ctx, plan)
	defer cached.close()
	first := v.console.Len() == 0 // an entry must not have the log of earlier boots
	for look := cached != nil; look; look = first && cached.turn.Wait(ctx) {
		inst, err := v.bootFromCache(ctx, cached.key, plan, releaseShare)
		if err != nil {
			return fmt.Errorf("vm `%s` boot: %w", v.name, err)
		}
		if inst != nil {
			return v.started(ctx, inst)
		}
	}
	var inst *guestRun
	if plan.cfg.Shape.Record && (cached == nil || !first) {
		releaseShare()
		return fmt.Errorf("vm `%s` boot: %w", v.name, shaped.ErrNotRecorded)
	}
	if keep := cached != nil && first; keep && plan.cfg.Shape.CountsInstructions() {
		inst, err = v.bootForCache(ctx, cached, plan, releaseShare)
	} else if inst, err = v.start(ctx, plan, releaseShare); err == nil && keep {
		v.storeBoot(ctx, cached, inst)
	}
	if err != nil {
		return v.bootError(ctx, err)
	}
	return v.started(ctx, inst)
}

// Command returns a command line that boots the guest by itself, as qemu.Config has it.
func (v *VM) Command(ctx context.Context) ([]string, error) {
	plan, err := v.planBoot(ctx, v.opts.Merge(nil), "")
	if err != nil {
		return nil, err
	}
	return plan.cfg.Command(), nil
}

func (v *VM) bootError(ctx context.Context, err error) error {
	const bootConsoleTail = 8 << 10 // bytes
	var answer *answerError
	if errors.As(err, &answer) && ctx.Err() == nil {
		return instance.FailedBoot(ctx, v.name, answer.err, v.Console().Tail(bootConsoleTail), &v.inspect,
			v.profile.Source)
	}
	return fmt.Errorf("vm `%s` boot: %w", v.name, err)
}

// BootError is returned for a boot in which no agent answered. The guest was ended.
type BootError = instance.BootError

// answerError is returned for a guest that was started and whose agent did not answer.
type answerError struct{ err error }

func (e *answerError) Error() string { return e.err.Error() }

func (e *answerError) Unwrap() error { return e.err }

func (v *VM) bootShare(opts *topology.BootOpts) admission.Share {
	return admission.Share{Memory: opts.MemoryBytes(), CPUs: opts.VCPUs(), Cold: !v.mayCache(opts)}
}

func restoreShare(r *snapshot.Reader) admission.Share {
	m := r.Manifest().Machine
	return admission.Share{Memory: m.Memory, CPUs: m.CPUs}
}

// gate returns the way to the pool.
func (h *Host) gate() admission.Gate { return admission.Gate{Pool: h.Pool, Wait: h.poolWait} }

// admit acquires the share of one guest.
func (v *VM) admit(ctx context.Context, s admission.Share) (releaseShare func(), err error) {
	release, err := v.host.gate().Acquire(ctx, "vm `"+v.name+"`", s)
	if err != nil {
		return nil, err
	}
	v.news.Reached(event.StageAdmitted)
	return release[0], nil
}

// start starts a guest and returns when its boot is done; started must be called
// then. It owns releaseShare.
func (v *VM) start(ctx context.Context, p *startPlan, releaseShare func()) (*guestRun, error) {
	v.findings.Begin()
	began := time.Now()
	inst, err := startGuest(ctx, v, p, v.agentTimeout(p.opts, p.cfg.Accel), releaseShare)
	if err != nil {
		v.findings.Failed()
		releaseShare()
		return nil, err
	}
	inst.began = began
	v.news.Reached(event.StageMachine)
	// From here on the end of the guest, whatever the cause, makes the VM dead.
	v.mu.Lock()
	v.inst = inst
	if inst.died != "" { // in this very moment
		v.state, v.reason, v.inst = topology.Dead, inst.died, nil
	}
	v.mu.Unlock()
	if err := inst.firstAnswer(ctx); err != nil {
		inst.End(err.Error())
		reports := v.findings.Failed()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &answerError{instance.Explain(err, reports)}
	}
	for _, f := range v.findings.Answered(inst.StampsLines()) {
		v.host.found(v, f)
	}
	return inst, nil
}

// started connects the guest to its bridges and makes the VM booted.
func (v *VM) started(ctx context.Context, inst *guestRun) error {
	if err := inst.syncNetwork(ctx, true); err != nil {
		inst.End(err.Error())
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("vm `%s`: %w", v.name, err)
	}
	cid, p := inst.machine.CID(), inst.plan
	if cid == 0 {
		cid = uint32(inst.machine.PID())
	}
	v.mu.Lock()
	if v.inst != inst {
		defer v.mu.Unlock()
		return &instance.GoneError{VM: v.name, Reason: v.reason}
	}
	v.state, v.reason, v.cid = topology.Booted, "", cid
	v.mu.Unlock()
	v.host.running.Store(v, nil)
	inst.announced.Started(p.cfg.Memory, cid, p.restored, p.boot != "", p.cfg.Shape.Args)
	return nil
}

func (v *VM) agentTimeout(opts *topology.BootOpts, accel string) time.Duration {
	return shaped.AgentTimeout(cmp.Or(opts.AgentTimeout, v.profile.AgentTimeout), accel)
}

// planBoot resolves the profile and the opts to files and a machine. An image of that key
// is not resolved again; with "", the image is always resolved.
func (v *VM) planBoot(ctx context.Context, opts *topology.BootOpts, key string) (*startPlan, error) {
	shape := shaped.Of(v.profile.Shape, opts.Shape, v.host.Local)
	if err := shaped.CheckWait(shape, v.agentIsOptional(opts), v.condition(opts)); err != nil {
		return nil, err
	}
	img, err := shaped.Image(shape, v.profile.Machine, opts, v.profile.Image, key != "" || len(v.disks.All()) > 0,
		v.condition(opts), func() (*image.Image, error) { return v.host.image(ctx, v.profile, key) })
	if err != nil {
		return nil, err
	}
	accel, err := shaped.Accel(shape, v.profile.Accel, img.Arch, v.host.AccelHost)
	if err != nil {
		return nil, err
	}
	binary, err := v.profile.program(v.host, img.Arch)
	if err != nil {
		return nil, err
	}
	v.news.Reached(event.StageImage)
	appended, vsock := shaped.Append(shape, opts.CmdlineAppend), v.profile.Image.Vsock && !v.host.Local
	if vsock {
		appended = strings.TrimSpace(qemu.VsockOption + " " + appended)
	}
	var cmdline string
	if !shape.IsFromDisk() {
		if cmdline, err = img.CommandLine(opts.Cmdline, appended); err != nil {
			return nil, err
		}
	}
	if err := v.prepareDir(); err != nil {
		return nil, err
	}
	initrd, err := img.InitrdWith(ctx, v.dir, shaped.Files(opts.Files))
	if err != nil {
		return nil, err
	}
	cfg := &qemu.Config{
		Arch: img.Arch, Binary: binary, Name: v.name, Dir: v.dir, Machine: v.profile.Machine, Accel: accel.Name,
		CPUs: opts.VCPUs(), Memory: opts.MemoryBytes(), Kernel: img.Kernel, Initrd: initrd, Cmdline: cmdline,
		RNGSeed: opts.RNGSeed, FirmwareConsole: v.profile.FirmwareConsole, Vsock: vsock, Starter: v.host.Starter,
		Sandboxes: &v.host.sandboxes, Shape: shape, Seed: shaped.Seed(v.host.Seed, v.name),
		Checks: v.world.Check.Recorder(v.host.File, v.name),
	}
	if v.host.TSC != nil {
		cfg.TSCKHz = v.host.TSC.KHz(ctx)
	}
	if opts.InitialTime != nil {
		cfg.RTCBase = *opts.InitialTime
	}
	if shape.IsUEFI() {
		if cfg.Firmware, err = qemu.FindFirmware(); err != nil && !v.host.Local {
			return nil, err
		}
	}
	if cfg.Kernel != "" && !v.host.Local {
		if err := image.CheckMemory(cfg.Kernel, initrd, cfg.Memory); err != nil {
			return nil, err
		}
	}
	nics := v.host.network().Plan(v)
	cfg.NICs = network.Devices(nics)
	return &startPlan{nics: nics, opts: opts, cfg: cfg, guest: snapshot.Guest{Profile: v.profile.Name, Image: img.Key,
		Cmdline: cmdline, RNGSeed: opts.RNGSeed, InitialTime: opts.InitialTime, Shape: cfg.Shape}}, nil
}
