package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"provium/internal/disk"
	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// bootCacheLimit is how much post-boot snapshots may take on disk, in bytes.
const bootCacheLimit = 4 << 30

// fairTimeout is the time to answer below which a restored guest that did not is
// no proof against its snapshot.
const fairTimeout = 10 * time.Second

// cacheable is a boot that the cache can serve, or learn.
type cacheable struct {
	key   string
	disks *disk.Origins
}

func (c *cacheable) close() {
	if c != nil {
		c.disks.Close()
	}
}

// cacheable describes the boot of a plan to the cache; nil is one that is not to be
// cached. It must be closed.
func (v *VM) cacheable(ctx context.Context, p *startPlan) *cacheable {
	if !v.mayCache(p) {
		return nil
	}
	disks := v.disks.Origins(ctx, v.host.Images, p.cfg.Disks)
	if disks == nil {
		return nil
	}
	if key := v.bootKey(p, disks.List()); key != "" {
		return &cacheable{key, disks}
	}
	disks.Close()
	return nil
}

// mayCache tells whether nobody wants the boot cold, and it does not fix what every
// boot otherwise has of its own.
func (v *VM) mayCache(p *startPlan) bool {
	switch {
	case v.host.BootCache == "" || v.profile.NoBootCache || p.opts.Cold != nil && *p.opts.Cold:
		return false
	case p.opts.RNGSeed != nil || p.opts.InitialTime != nil:
		return false
	}
	return p.cfg.Memory%snapshot.PageSize == 0
}

// bootKey names the post-boot snapshot of a plan: a digest over everything that the
// guest's state after its first answer depends on. "" is none.
func (v *VM) bootKey(p *startPlan, disks []disk.Origin) string {
	binary, err := programID(p.cfg.Binary)
	if err != nil {
		return "" // the boot itself says what is wrong
	}
	text, err := json.Marshal(struct {
		Format   int
		QEMU     string
		Image    string
		Cmdline  string
		Hardware qemu.Hardware
		CPU      string
		Files    []BootFile
		Disks    []disk.Origin `json:",omitempty"`
	}{snapshot.Version, binary, p.guest.Image, p.guest.Cmdline, p.cfg.Hardware(), v.hardware(p.cfg, "").CPU, p.opts.Files, disks})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:20])
}

// programID tells one version of a program from another without running it.
func programID(name string) (string, error) {
	if name == "" {
		name = qemu.DefaultBinary
	}
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal([]any{path, info.Size(), info.ModTime().UnixNano()})
	return string(text), err
}

func (v *VM) bootCache() *snapshot.Cache {
	return &snapshot.Cache{Dir: v.host.BootCache, Limit: bootCacheLimit}
}

// bootFromCache serves a boot from its snapshot. It gives nil without an error
// when there is none that works; releaseShare is still the caller's then.
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
	fast := *p
	cfg := *p.cfg
	fast.cfg = &cfg
	saved, err := v.loadSections(r, coreSections())
	if err == nil {
		err = v.runFrom(ctx, &fast, r, saved)
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
	share := &poolShare{releaseShare: releaseShare}
	inst, err := v.start(ctx, &fast, share.release)
	if err == nil || ctx.Err() != nil {
		share.settle()
		if err == nil && len(fast.cfg.Disks) == 0 { // a stand-by has no disks of the VM's
			v.restored(&fast)
		}
		return inst, err
	}
	// The share is for the guest that boots instead.
	unusable(err)
	v.settle(before)
	v.console.MarkBoot()
	if first {
		if err := v.console.Replace(nil, 0); err != nil {
			v.host.warn("vm `%s` console log: %v", v.name, err)
		}
	}
	return nil, v.bootInstead(p, releaseShare)
}

// bootInstead prepares for the guest that boots in the place of one from the cache.
func (v *VM) bootInstead(p *startPlan, releaseShare func()) (err error) {
	if p.cfg.Disks, err = v.disks.Revert(v.dir); err != nil {
		releaseShare()
	}
	return err
}

// poolShare holds a guest's release of its share back until it is known that no
// other guest takes the share over.
type poolShare struct {
	releaseShare func()

	mu       sync.Mutex
	settled  bool
	released bool
}

func (s *poolShare) release() {
	s.mu.Lock()
	s.released = true
	settled := s.settled
	s.mu.Unlock()
	if settled {
		s.releaseShare()
	}
}

// settle lets the release through, also one that has come already.
func (s *poolShare) settle() {
	s.mu.Lock()
	s.settled = true
	released := s.released
	s.mu.Unlock()
	if released {
		s.releaseShare()
	}
}

// errMeddled is a boot that others will not have: the test did something to a disk
// meanwhile.
var errMeddled = errors.New("a disk was changed during the boot")

// storeBoot puts the guest, which has just answered for the first time, into the
// cache. Trouble with the cache does not concern the boot.
func (v *VM) storeBoot(ctx context.Context, c *cacheable, inst *guestRun) {
	// A boot that the kernel complained about must be seen by every test.
	inst.machine.SyncConsole()
	v.mu.Lock()
	clean := len(v.findings) == 0
	v.mu.Unlock()
	if !clean {
		return
	}
	cache := v.bootCache()
	if _, err := os.Stat(cache.Path(c.key)); err == nil {
		return // somebody else was faster
	}
	valid := func() error {
		if !c.disks.Unchanged(ctx, v.host.Images) {
			return errMeddled
		}
		return nil
	}
	w, err := cache.Create(c.key, inst.plan.cfg.Memory)
	if err == nil {
		var taken *takenSnapshot
		taken, err = inst.save(ctx, w, saving{running: true, disks: disk.Form{Changes: true}, valid: valid})
		if err == nil {
			err = cache.Trust(c.key, taken.id)
		}
		w.Abort()
	}
	if err == nil {
		err = cache.Prune(time.Now())
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, errMeddled) {
		v.host.warn("vm `%s`: the boot is not cached: %v", v.name, err)
	}
}
