//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"provium/internal/lab"
)

// labsnap takes snapshots of two equal guests in turns, one of which has a disk of
// 1 GiB of which 10 MiB change in between, and resets a guest from a baseline with
// a guest that was restored ahead of need.
func (b *bench) labsnap(ctx context.Context) (err error) {
	const rounds, changed = 7, 10 << 20
	l, err := b.lab()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(append(l.CloseScope(ctx), err)...) }()
	var vms [2]*lab.VM
	for i, name := range []string{"without", "with"} {
		if vms[i], err = l.DeclareVM(name, "host", &lab.BootOpts{Memory: guestMemory}); err != nil {
			return err
		}
		if err := vms[i].Boot(ctx, nil); err != nil {
			return err
		}
	}
	disk, err := vms[1].AttachDisk(ctx, lab.DiskSpec{ID: "d", Scratch: 1 << 30})
	if err != nil {
		return err
	}
	p := make([]byte, 1<<20)
	for i := range p {
		p[i] = byte(i%251 + 1)
	}
	for at := int64(0); at < 1<<30; at += int64(len(p)) {
		if err := disk.WriteSectors(ctx, at/lab.SectorSize, p); err != nil {
			return err
		}
	}
	var took [2]sample
	for round := range rounds {
		for at := int64(0); at < changed; at += int64(len(p)) {
			p[0]++
			if err := disk.WriteSectors(ctx, (int64(round)*changed+at)/lab.SectorSize, p); err != nil {
				return err
			}
		}
		for i, vm := range vms {
			start := time.Now()
			s, err := vm.Snapshot(ctx, "")
			if err != nil {
				return err
			}
			took[i] = append(took[i], time.Since(start))
			if err := s.Delete(); err != nil {
				return err
			}
		}
	}
	more := took[1].median() - took[0].median()
	b.table.judge("snapshot with a disk of 1 GiB, 10 MiB changed", fmt.Sprintf("%s more than %s without", short(more), short(took[0].median())),
		"<= 20ms more", more <= 20*time.Millisecond)

	// A reset is what a test waits for; its guest is made while the one before runs.
	one, err := l.Lab("one")
	if err != nil {
		return err
	}
	vm, err := one.DeclareVM("vm", "host", &lab.BootOpts{Memory: guestMemory})
	if err != nil {
		return err
	}
	if err := vms[0].Shutdown(ctx); err != nil {
		return err
	}
	if err := vms[1].Shutdown(ctx); err != nil {
		return err
	}
	if err := vm.Boot(ctx, nil); err != nil {
		return err
	}
	baseline, err := one.Snapshot(ctx, "")
	if err != nil {
		return err
	}
	var resets sample
	for range 10 {
		if err := one.Prepare(ctx, baseline.Path()); err != nil {
			return err
		}
		time.Sleep(1500 * time.Millisecond) // the test
		start := time.Now()
		if err := one.Restore(ctx, baseline.Path()); err != nil {
			return err
		}
		resets = append(resets, time.Since(start))
	}
	b.table.judge("reset between tests", resets.String(), "<= 35ms", resets.median() <= 35*time.Millisecond)
	return baseline.Delete()
}
