package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"provium/internal/lab/shaped"
	"provium/internal/qemu"
	"provium/internal/snapshot"
	"provium/internal/topology"
)

// Trust marks snapshot files as verified, so that they are not read through again.
func (h *Host) Trust(files ...snapshot.FileID) {
	for _, id := range files {
		h.snapshots.Trust(id)
	}
}

// ProfileDigest returns a digest of what a profile boots: kernel, initrd, modules,
// agent, command line, machine, accelerator, QEMU, and what is deterministic. The first result is kept.
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
	accel, err := shaped.Accel(p.Shape, p.Accel, img.Arch, h.AccelHost)
	if err != nil {
		return "", err
	}
	program, err := p.program(h, img.Arch)
	if err != nil {
		return "", err
	}
	version, _ := qemu.ProgramID(program) // without it the boot says what is wrong
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %t%s", img.Key, p.Machine, accel.Name, version,
		p.FirmwareConsole, shaped.Identity(p.Shape, h.Seed)))
	digest := hex.EncodeToString(sum[:16])
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.digests == nil {
		h.digests = map[*Profile]string{}
	}
	h.digests[p] = digest
	return digest, nil
}

// DeclareFrom declares a VM for a snapshot to be restored into. When the name is taken,
// it gets a number: -2, -3 and so on.
func (l *Lab) DeclareFrom(name, profile string) (*VM, error) {
	if err := topology.CheckName("vm", name); err != nil {
		return nil, err
	}
	p, err := l.host.profile(profile)
	if err != nil {
		return nil, err
	}
	return l.declareFree(func(n int) string {
		if n == 1 {
			return name
		}
		return topology.Numbered(name, "-", n)
	}, p, nil)
}

// SubLabFrom restores a lab snapshot into a new sub-lab called __lab_0, __lab_1 and so
// on. When that fails, no sub-lab is left.
func (l *Lab) SubLabFrom(ctx context.Context, dir string) (*Lab, error) {
	sub, err := l.Lab("")
	if err != nil {
		return nil, err
	}
	if err = sub.Restore(ctx, dir); err == nil {
		return sub, nil
	}
	// Remove cannot fail: it is a member.
	err = errors.Join(err, l.Remove(sub))
	return nil, errors.Join(append([]error{err}, sub.CloseScope(context.WithoutCancel(ctx))...)...)
}
