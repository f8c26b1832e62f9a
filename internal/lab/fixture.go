package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// Trust has the host take snapshot files for good that somebody else has read
// through.
func (h *Host) Trust(files ...snapshot.FileID) {
	for _, id := range files {
		h.snapshots.Trust(id)
	}
}

// ProfileDigest names what a profile boots: kernel, initrd, modules, agent,
// command line, machine and accelerator. It looks once.
func (h *Host) ProfileDigest(ctx context.Context, name string) (string, error) {
	p, err := h.profile(name)
	if err != nil {
		return "", err
	}
	h.mu.Lock()
	known := h.digests[p]
	h.mu.Unlock()
	if known != "" {
		return known, nil
	}
	img, err := h.Images.Resolve(ctx, p.Image)
	if err != nil {
		return "", err
	}
	accel, err := qemu.ChooseAccel(p.Accel, h.AccelHost)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", img.Key, p.Machine, accel.Name))
	digest := hex.EncodeToString(sum[:16])
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.digests == nil {
		h.digests = map[*Profile]string{}
	}
	h.digests[p] = digest
	return digest, nil
}

// DeclareFrom makes a VM of that name, or of that name with -2, -3, ... when it is
// taken, for a snapshot to be restored into.
func (l *Lab) DeclareFrom(name, profile string) (*VM, error) {
	if err := checkName("vm", name); err != nil {
		return nil, err
	}
	p, err := l.host.profile(profile)
	if err != nil {
		return nil, err
	}
	vm, err := l.declareFree(name, p)
	if err != nil {
		return nil, err
	}
	l.host.network().Bind(vm)
	return vm, nil
}

func (l *Lab) declareFree(name string, p *Profile) (*VM, error) {
	free := name
	for n := 2; ; n++ {
		if err := checkName("vm", free); err != nil {
			return nil, err
		}
		if _, taken := l.VM(free); !taken {
			vm, err := l.declare(free, p, nil)
			if err == nil {
				return vm, nil
			}
			if _, taken := l.VM(free); !taken {
				return nil, err
			}
		}
		suffix := fmt.Sprintf("-%d", n)
		free = name[:min(len(name), maxName-len(suffix))] + suffix
	}
}

// SubLabFrom makes a new sub-lab, __lab_0, __lab_1 and so on, that is the lab of a
// snapshot. One that does not restore leaves nothing.
func (l *Lab) SubLabFrom(ctx context.Context, dir string) (*Lab, error) {
	sub, err := l.Lab("")
	if err != nil {
		return nil, err
	}
	if err = sub.Restore(ctx, dir); err == nil {
		return sub, nil
	}
	// It is a member, since that was not ended.
	err = errors.Join(err, l.Remove(sub))
	return nil, errors.Join(append([]error{err}, sub.CloseScope(context.WithoutCancel(ctx))...)...)
}
