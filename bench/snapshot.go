//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"provium/internal/lab"
	"provium/internal/qemu"
)

const (
	restoreRounds = 100
	clones        = 20
)

// snapshots measures what restores cost, beside a cold boot of the same guest.
func (b *bench) snapshots(ctx context.Context) error {
	if err := b.restores(ctx, true); err != nil {
		return err
	}
	return b.restores(ctx, false)
}

// restores boots a guest, saves it, and restores it again and again, with or
// without stand-bys.
func (b *bench) restores(ctx context.Context, plain bool) (err error) {
	dir, err := os.MkdirTemp(b.dir, "lab")
	if err != nil {
		return err
	}
	l := lab.New(&lab.Host{TempDir: dir, Images: b.images, Starter: b.starter, AccelHost: qemu.ThisHost(),
		Profiles: map[string]*lab.Profile{"host": {Name: "host"}}, NoStandbys: plain})
	defer func() { err = errors.Join(append(l.CloseScope(ctx), err)...) }()
	vm, err := l.DeclareVM("a", "host", &lab.BootOpts{Memory: guestMemory, Cold: new(true)})
	if err != nil {
		return err
	}
	start := time.Now()
	if err := errors.Join(vm.Boot(ctx, nil), vm.Ping(ctx)); err != nil {
		return err
	}
	cold := time.Since(start)
	start = time.Now()
	s, err := vm.Snapshot(ctx, "")
	if err != nil {
		return err
	}
	took := time.Since(start)
	var restore sample
	for range restoreRounds {
		if err := vm.Shutdown(ctx); err != nil {
			return err
		}
		if !plain {
			if err := vm.Prepare(ctx, s.Path()); err != nil {
				return err
			}
			time.Sleep(cold / 8) // a test runs meanwhile
		}
		start := time.Now()
		if err := errors.Join(vm.Restore(ctx, s.Path()), vm.Ping(ctx)); err != nil {
			return err
		}
		restore = append(restore, time.Since(start))
	}
	if !plain {
		b.table.judge("restore with a stand-by to first op", restore.String(), "<= 35 ms", restore.median() <= 35*time.Millisecond)
		return nil
	}
	b.table.info("whole snapshot of a booted guest", short(took), "", "")
	b.table.atMost("restore to first op / cold boot", restore, 0.04, sample{cold})
	b.table.judge("  median", short(restore.median()), "<= 70 ms", restore.median() <= 70*time.Millisecond)
	b.table.judge("  p99", short(restore.quantile(0.99)), "<= 2 x median", restore.quantile(0.99) <= 2*restore.median())
	return b.clones(ctx, l, s)
}

// clones runs many guests from one snapshot and looks at what each has for itself.
func (b *bench) clones(ctx context.Context, l *lab.Lab, s *lab.Snapshot) error {
	var most uint64
	var vms []*lab.VM
	for i := range clones {
		vm, err := l.DeclareVM(fmt.Sprintf("c%d", i), "host", nil)
		if err != nil {
			return err
		}
		if err := errors.Join(vm.Restore(ctx, s.Path()), vm.Ping(ctx)); err != nil {
			return err
		}
		vms = append(vms, vm)
	}
	for _, vm := range vms {
		cid, _ := vm.CID()
		size, err := privateMemory(cid)
		if err != nil {
			return err
		}
		most = max(most, size)
	}
	const limit = 45 << 20
	b.table.judge(fmt.Sprintf("private memory of each of %d clones, the most", clones), mib(most), "<= 45 MiB", most <= limit)
	return nil
}

// privateMemory is what a process shares with no other, in bytes.
func privateMemory(pid uint32) (total uint64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var n uint64
		if name, rest, _ := strings.Cut(line, ":"); strings.HasPrefix(name, "Private_") {
			if _, err := fmt.Sscan(rest, &n); err != nil {
				return 0, err
			}
			total += n << 10
		}
	}
	return total, nil
}
