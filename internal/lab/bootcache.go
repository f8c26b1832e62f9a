package lab

import (
	"context"
	"errors"
	"strings"
	"time"

	"provium/internal/disk"
	"provium/internal/hosttsc"
	"provium/internal/instance"
	"provium/internal/lab/shaped"
	"provium/internal/qemu"
	"provium/internal/ready"
	"provium/internal/snapshot"
	"provium/internal/topology"
)

// bootCacheLimit is the most that post-boot snapshots take on disk, in bytes.
const bootCacheLimit = 6 << 30

// fairTimeout is the least agent timeout after which a restored guest that did not answer
// is proof against its snapshot.
const fairTimeout = 10 * time.Second

// maxKernelName is how much is kept of the release of a kernel, in bytes.
const maxKernelName = 64

// cacheable is a boot that the cache can serve or store.
type cacheable struct {
	key   string
	turn  *snapshot.Turn
	disks *disk.Origins
}

func (c *cacheable) close() {
	if c != nil {
		c.turn.Close()
		c.disks.Close()
	}
}

// cacheable returns the description of a plan's boot for the cache, nil when it must not
// be cached. The result must be closed.
func (v *VM) cacheable(ctx context.Context, p *startPlan) *cacheable {
	if !v.mayCache(p.opts) {
		return nil
	}
	if qemu.Saveable(p.cfg.Disks) != nil {
		return nil
	}
	disks := v.disks.Origins(ctx, v.host.Images, p.cfg.Disks)
	if disks == nil {
		return nil
	}
	if key := v.bootKey(p, disks.List()); key != "" {
		v.host.Boots.Ask(key)
		// Another boot of the same is worth some of the time that it may take.
		return &cacheable{key, v.bootCache().Turn(key, v.bootTimeout(p)/4), disks}
	}
	disks.Close()
	return nil
}

// mayCache reports whether a boot may be cached: it is not wanted cold, has an agent, and does not
// fix the random seed.
func (v *VM) mayCache(opts *topology.BootOpts) bool {
	switch {
	case v.host.BootCache == "" || v.profile.NoBootCache || opts.Cold != nil && *opts.Cold:
		return false
	case v.agentIsOptional(opts):
		return false
	case opts.RNGSeed != nil:
		return false
	}
	shape := v.profile.Shape.Merge(opts.Shape) // what QEMU is told may be of files, and change with them
	return opts.MemoryBytes()%snapshot.PageSize == 0 && shape.CanBeCached()
}

// bootKey returns the key of a plan's post-boot snapshot: a digest of everything that the
// guest's state at the end of its boot depends on. It returns "" when that is unknown.
func (v *VM) bootKey(p *startPlan, disks []disk.Origin) string {
	binary, err := qemu.ProgramID(p.cfg.Binary)
	if err != nil {
		return "" // the boot itself says what is wrong
	}
	type form struct {
		Format   string
		QEMU     string
		Image    string
		Cmdline  string
		Hardware qemu.Hardware
		CPU      string
		Files    []topology.BootFile
		Disks    []disk.Origin `json:",omitempty"`
		MACs     []string      `json:",omitempty"`
		Ready    string        `json:",omitempty"`
		Start    *time.Time    `json:",omitempty"` // of a fixed wall clock
		TSC      int           // of the host, roughly: each run measures it anew
	}
	var forms []any
	reached, start := "", shaped.InUTC(p.opts.InitialTime)
	if c := v.condition(p.opts); c.Kind != ready.Agent {
		reached = c.String()
	}
	for _, class := range hosttsc.Classes(p.cfg.TSCKHz) {
		forms = append(forms, form{snapshot.Form(), binary, p.guest.Image, p.guest.Cmdline, p.cfg.Hardware(),
			shaped.Hardware(p.cfg, v.host.AccelHost, "").CPU, p.opts.Files, disks, v.fixedMACs(p), reached, start,
			class})
	}
	return v.bootCache().Choose(forms...)
}

func (v *VM) bootCache() *snapshot.Cache {
	return &snapshot.Cache{Dir: v.host.BootCache, Limit: bootCacheLimit}
}

// bootFromCache serves a boot from its snapshot. It returns nil without an error when no
// snapshot works; the caller still owns releaseShare then.
func (v *VM) bootFromCache(ctx context.Context, key string, p *startPlan, releaseShare func()) (*guestRun, error) {
	cache := v.bootCache()
	unusable := func(err error) {
		var answer *answerError
		if errors.As(err, &answer) && v.agentTimeout(p.opts, p.cfg.Accel) < fairTimeout {
			return // says nothing about the snapshot
		}
		v.host.warn("vm `%s`: the boot cache's entry cannot be used and is removed: %v", v.name, err)
		if err := cache.Evict(key); err != nil {
			v.host.warn("%v", err)
		}
	}
	r, err := cache.Open(ctx, key, time.Now())
	switch {
	case errors.Is(err, snapshot.ErrMiss):
		return nil, nil
	case ctx.Err() != nil:
		if r != nil {
			r.Close()
		}
		releaseShare()
		return nil, context.Cause(ctx)
	case err != nil:
		unusable(err)
		return nil, nil
	}
	defer r.Close()
	if limit := v.profile.BootCacheAge; limit > 0 && time.Since(r.Manifest().Created) > limit {
		if err := cache.Evict(key); err != nil {
			v.host.warn("%v", err)
		}
		return nil, nil
	}
	fast := *p
	cfg := *p.cfg
	fast.cfg, fast.boot = &cfg, key
	saved, err := v.loadSections(r, coreSections())
	if err == nil {
		defer v.lead(ctx, &fast, r)()
		err = v.runFrom(ctx, &fast, r, saved)
	}
	if err == nil {
		cfg.Restore.UUID = r.Manifest().Guest.BootID
		fast.guest.MachineID = r.Manifest().Guest.MachineID
	}
	if err != nil {
		unusable(err)
		return nil, nil
	}
	if err := v.disks.Apply(r); err != nil {
		unusable(err)
		return nil, v.bootInstead(p, releaseShare)
	}
	before := v.State()
	first := v.console.Len() == 0
	if _, err := v.console.Write(fast.text); err != nil {
		v.host.warn("vm `%s` console log: %v", v.name, err)
	}
	share := instance.NewShare(releaseShare)
	inst, err := v.start(ctx, &fast, share.Release)
	if err == nil || ctx.Err() != nil {
		share.Finalize()
		if err == nil {
			v.restored(ctx, inst)
		}
		return inst, err
	}
	// The guest that boots instead takes the share over.
	unusable(err)
	v.clearGuest(before)
	v.console.MarkBoot()
	if first {
		if err := v.console.Replace(nil, 0); err != nil {
			v.host.warn("vm `%s` console log: %v", v.name, err)
		}
	}
	return nil, v.bootInstead(p, releaseShare)
}

// bootInstead prepares the boot in place of a guest from the cache.
func (v *VM) bootInstead(p *startPlan, releaseShare func()) (err error) {
	if p.cfg.Disks, err = v.disks.Revert(v.dir); err != nil {
		releaseShare()
	}
	return err
}

// errDiskChanged is returned when a test changed a disk during the boot: the boot is not
// one that others can have.
var errDiskChanged = errors.New("a disk was changed during the boot")

// bootForCache boots a deterministic guest for the cache, and serves the boot from there: a guest that went on from
// its own boot would not do the same as those that are served.
func (v *VM) bootForCache(ctx context.Context, c *cacheable, p *startPlan, releaseShare func()) (*guestRun, error) {
	first, before := *p, v.State()
	first.cfg = shaped.ForCache(p.cfg)
	inst, err := v.start(ctx, &first, func() {})
	if err == nil {
		v.storeBoot(ctx, c, inst)
		inst.Expect(true)
		inst.End("its snapshot goes on")
		v.clearGuest(before)
		err = v.console.Replace(nil, 0)
		v.console.MarkBoot()
	}
	if err != nil {
		releaseShare()
		return nil, err
	}
	inst, err = v.bootFromCache(ctx, c.key, p, releaseShare)
	switch {
	case inst == nil && err == nil && p.cfg.Shape.Record:
		releaseShare()
		err = shaped.ErrNotRecorded
	case inst == nil && err == nil: // no boot of this guest can be kept
		inst, err = v.start(ctx, p, releaseShare)
	}
	return inst, err
}

// storeBoot adds the guest, whose boot is just done, to the cache. Its
// errors are warnings.
func (v *VM) storeBoot(ctx context.Context, c *cacheable, inst *guestRun) {
	cache := v.bootCache()
	if cache.Has(c.key) {
		return // another process was faster
	}
	valid := func() error {
		if !c.disks.Unchanged(ctx, v.host.Images) {
			return errDiskChanged
		}
		return nil
	}
	if link, err := inst.Client(ctx); err == nil {
		if command := shaped.Programs(&v.profile.Image); command != "" { // all guests that are served have the files
			_ = link.Exercise(ctx, command) // what runs next says why it does not
		}
		if err := instance.CheckClock(ctx, link, inst.began); err != nil && !inst.plan.cfg.Shape.CountsInstructions() {
			v.host.warn("vm `%s`: the boot is not cached: %v", v.name, err)
			return
		}
		kernel := strings.TrimPrefix(link.Info().GuestOS, "linux ")
		inst.plan.guest.Kernel = kernel[:min(len(kernel), maxKernelName)]
		inst.plan.guest.MachineID = link.HasMachineID(ctx)
	}
	// A boot that the kernel complained about must be seen by every test.
	inst.SyncConsole()
	if !v.findings.IsEmpty() || inst.IsReporting() {
		return
	}
	if v.condition(inst.plan.opts).Kind == ready.Agent && !inst.plan.cfg.Shape.CountsInstructions() {
		// Later, programs have the id, and write it to the journal.
		inst.plan.guest.BootID = instance.FindBootID(ctx, inst.Instance)
	}
	w, err := cache.Create(c.key, inst.plan.cfg.Memory)
	if err == nil {
		var taken *takenSnapshot
		taken, err = inst.save(ctx, w, saving{running: true, disks: disk.Form{Changes: true}, valid: valid})
		if err == nil {
			v.host.Templates.Put(taken.id, taken.template, true)
			err = cache.Trust(c.key, taken.id)
		}
		w.Abort()
	}
	if err == nil {
		err = cache.Prune(time.Now())
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, errDiskChanged) {
		v.host.warn("vm `%s`: the boot is not cached: %v", v.name, err)
	}
}
