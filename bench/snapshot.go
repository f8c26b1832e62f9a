//go:build bench

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"provium/internal/disk"
	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/topology"
)

const (
	restoreRounds  = 1000
	floorEvery     = 10 // restores per one by raw QEMU
	resetRounds    = 40
	cacheRounds    = 40
	snapshotRounds = 15
	withDiskRounds = 7
	labRounds      = 10
	clones         = 20
	isolatedTests  = 200
)

// withVM returns do a VM in a lab of its own, and closes that.
func (b *bench) withVM(ctx context.Context, h *lab.Host, opts *topology.BootOpts,
	do func(vm *lab.VM) error) (err error) {
	l := lab.New(h)
	defer func() { err = errors.Join(append(l.CloseScope(ctx), err)...) }()
	opts.Memory = guestMemory
	vm, err := l.DeclareVM("a", "host", opts)
	if err != nil {
		return err
	}
	return do(vm)
}

// clock measures start and a first operation.
func clock(ctx context.Context, vm *lab.VM, start func() error) (time.Duration, error) {
	begun := time.Now()
	if err := start(); err != nil {
		return 0, err
	}
	if err := vm.Ping(ctx); err != nil {
		return 0, err
	}
	return time.Since(begun), nil
}

// snapshots measures what snapshots cost and what is restored from them, beside
// cold boots of the same guest.
func (b *bench) snapshots(ctx context.Context) error {
	h, err := b.host()
	if err != nil {
		return err
	}
	var cold, whole, stood sample
	var path string
	for range 3 {
		err := b.withVM(ctx, h, &topology.BootOpts{Cold: new(true)}, func(vm *lab.VM) error {
			t, err := clock(ctx, vm, func() error { return vm.Boot(ctx, nil) })
			if err != nil {
				return err
			}
			cold = append(cold, t)
			for range snapshotRounds / 3 {
				if path != "" {
					if err := os.Remove(path); err != nil {
						return err
					}
				}
				path = filepath.Join(h.TempDir, "booted.snap")
				start := time.Now()
				s, err := vm.Snapshot(ctx, path)
				if err != nil {
					return err
				}
				whole, stood = append(whole, time.Since(start)), append(stood, s.Paused())
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	b.table.judge("snapshot of a booted guest: it stands still for", stood.String(), "<= 50 ms",
		stood.median() <= 50*time.Millisecond)
	b.table.info("  the whole snapshot", whole.String(), "", "")
	for _, take := range []func() error{
		func() error { return b.restores(ctx, path, cold) },
		func() error { return b.prewarmed(ctx, h, path, cold) },
		func() error { return b.cachedBoots(ctx, cold) },
		func() error { return b.cachedDiskBoots(ctx) },
		func() error { return b.derived(ctx, h, path) },
		func() error { return b.clones(ctx, h, path) },
		func() error { return b.isolated(ctx) },
		func() error { return b.withDisk(ctx) },
		func() error { return b.labResets(ctx) },
	} {
		if err := take(); err != nil {
			return err
		}
	}
	return nil
}

// restores measures restores without a prewarmed guest. What the process holds must not
// grow over them.
func (b *bench) restores(ctx context.Context, path string, cold sample) error {
	h, err := b.host()
	if err != nil {
		return err
	}
	h.NoPrewarming = true
	command := &recorder{Starter: h.Starter}
	h.Starter = command
	var all, floor, program sample
	before := 0
	err = b.withVM(ctx, h, &topology.BootOpts{}, func(vm *lab.VM) error {
		for round := range restoreRounds {
			t, err := clock(ctx, vm, func() error { return vm.Restore(ctx, path) })
			if err == nil {
				err = vm.Shutdown(ctx)
			}
			if err != nil {
				return fmt.Errorf("restore %d: %w", round, err)
			}
			if round == 0 {
				continue // the file is read through once
			}
			all = append(all, t)
			if round == 20 {
				before = openFiles()
			}
			if round%floorEvery != 0 {
				continue
			}
			raw, answered, err := b.rawRestore(ctx, command, path)
			if err != nil {
				return err
			}
			start, err := b.programStart()
			if err != nil {
				return err
			}
			floor, program = append(floor, raw), append(program, start)
			b.answered = append(b.answered, answered)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.table.atMost("restore to first completed op / cold boot", all, 1.0/25, cold)
	above := all.median() - floor.median()
	b.table.compare(row{figure: "  the same / raw QEMU restoring the same state, up to RESUME",
		value: all.String(), reference: floor.String(),
		ratio:  fmt.Sprintf("%.2f", float64(all.median())/float64(floor.median())),
		best:   fmt.Sprintf("%.2f", float64(all.best())/float64(floor.best())),
		target: "<= 50 ms, or 15 ms above"},
		all.median() <= 50*time.Millisecond || above <= 15*time.Millisecond)
	b.table.info("  of it: qemu --version", program.String(), "", "")
	p99 := all.quantile(0.99)
	b.table.judge(fmt.Sprintf("  p99 of %d", len(all)), short(p99), "<= 2 x median", p99 <= 2*all.median())
	grown := openFiles() - before
	b.table.judge("  descriptors more at the end than after 20", fmt.Sprint(grown), "<= 0", grown <= 0)
	return nil
}

func openFiles() int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(all)
}

// prewarmed measures a reset between tests: the guest ends, and the one that was
// restored meanwhile takes its place.
func (b *bench) prewarmed(ctx context.Context, h *lab.Host, path string, cold sample) error {
	var all sample
	err := b.withVM(ctx, h, &topology.BootOpts{}, func(vm *lab.VM) error {
		for range resetRounds {
			if err := vm.Restore(ctx, path); err != nil {
				return err
			}
			if err := vm.Prepare(ctx, path); err != nil {
				return err
			}
			// What a test does, for as long as a prewarmed guest needs.
			if _, err := vm.Run(ctx, guest.RunRequest{Shell: "sleep 1"}); err != nil {
				return err
			}
			t, err := clock(ctx, vm, func() error {
				if err := vm.Shutdown(ctx); err != nil {
					return err
				}
				return vm.Restore(ctx, path)
			})
			if err != nil {
				return err
			}
			all = append(all, t)
			if err := vm.Shutdown(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		b.table.compare(row{figure: "reset with a prewarmed guest, to first completed op", value: all.String(),
			reference: cold.String(),
			ratio:     fmt.Sprintf("%.3f", float64(all.median())/float64(cold.median())), target: "<= 35 ms"},
			all.median() <= 35*time.Millisecond)
	}
	return err
}

// cachedBoots measures boots that the boot cache serves.
func (b *bench) cachedBoots(ctx context.Context, cold sample) error {
	dir := filepath.Join(b.dir, "boots")
	var all sample
	for round := range cacheRounds {
		h, err := b.host()
		if err != nil {
			return err
		}
		h.BootCache = dir
		err = b.withVM(ctx, h, &topology.BootOpts{}, func(vm *lab.VM) error {
			t, err := clock(ctx, vm, func() error { return vm.Boot(ctx, nil) })
			if round > 1 { // the first fills the cache
				all = append(all, t)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	b.table.floor("boot from the boot cache, in a process without templates / raw QEMU restoring the same, to first "+
		"completed op", all, b.answered)
	b.table.compare(row{figure: "  the same / cold boot", value: all.String(),
		reference: cold.String(),
		ratio:     fmt.Sprintf("%.3f", float64(all.median())/float64(cold.median())), target: "<= 60 ms"},
		all.median() <= 60*time.Millisecond)
	return nil
}

// derived measures snapshots of a restored guest that has changed little.
func (b *bench) derived(ctx context.Context, h *lab.Host, path string) error {
	const changed = 2 << 20
	var all sample
	var size int64
	err := b.withVM(ctx, h, &topology.BootOpts{}, func(vm *lab.VM) error {
		if err := vm.Restore(ctx, path); err != nil {
			return err
		}
		if err := vm.WriteFile(ctx, "/tmp/change", bytes.Repeat([]byte("change"), changed/6)); err != nil {
			return err
		}
		for range snapshotRounds {
			start := time.Now()
			s, err := vm.Snapshot(ctx, "")
			if err != nil {
				return err
			}
			all = append(all, time.Since(start))
			if size, err = s.Size(); err != nil {
				return err
			}
			if err := s.Delete(); err != nil {
				return err
			}
		}
		private, _, err := guestMemoryUse(vm)
		if err == nil {
			b.table.compare(row{figure: "snapshot of a restored guest, 2 MiB written: on disk",
				value: mib(uint64(size)), reference: "dirty: " + mib(private),
				target: "<= 2 x"}, uint64(size) <= 2*private)
		}
		return err
	})
	if err == nil {
		b.table.judge("  the same: time", all.String(), "<= 30 ms", all.median() <= 30*time.Millisecond)
	}
	return err
}

// guestMemoryUse returns what a guest's QEMU has for itself, and of it what is of
// the guest's memory.
func guestMemoryUse(vm *lab.VM) (private, all uint64, err error) {
	cid, ok := vm.CID()
	if !ok {
		return 0, 0, errors.New("the guest has no CID")
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", cid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "Private_Dirty:":
			private = n << 10
			all += n << 10
		case "Private_Clean:":
			all += n << 10
		}
	}
	return private, all, nil
}

// clones runs many guests from one snapshot.
func (b *bench) clones(ctx context.Context, h *lab.Host, path string) (err error) {
	l := lab.New(h)
	defer func() { err = errors.Join(append(l.CloseScope(ctx), err)...) }()
	var most, sum uint64
	for i := range clones {
		vm, err := l.DeclareVM(fmt.Sprint("c", i), "host", &topology.BootOpts{Memory: guestMemory})
		if err != nil {
			return err
		}
		if err := vm.Restore(ctx, path); err != nil {
			return err
		}
		if err := vm.Ping(ctx); err != nil {
			return err
		}
	}
	for _, vm := range l.AllVMs() {
		_, private, err := guestMemoryUse(vm)
		if err != nil {
			return err
		}
		most, sum = max(most, private), sum+private
	}
	b.table.judge(fmt.Sprintf("private memory of each of %d clones: most", clones), mib(most), "<= 45 MiB",
		most <= 45<<20)
	b.table.info("  on average", mib(sum/clones), "", "")
	return nil
}

// isolated runs many tests, each on a guest in the state that the file's chunk
// left, by the program, in two files.
func (b *bench) isolated(ctx context.Context) error {
	text := fmt.Sprintf(`
provium.reset_between_tests = true
local vm = provium:vm("v", "host"):boot()
for i = 1, %d do
  test("isolated " .. i, function(t)
    t:assert(not pcall(vm.stat, vm, "/tmp/mark"))
    vm:write_file("/tmp/mark", "x")
  end)
end
`, isolatedTests/2)
	p, err := b.project(map[string]string{"a.test.lua": text, "b.test.lua": text})
	if err != nil {
		return err
	}
	start := time.Now()
	if err := p.run(ctx, nil); err != nil {
		return err
	}
	rate := isolatedTests / time.Since(start).Minutes()
	b.table.judge(fmt.Sprintf("isolated tests a minute (%d in two files)", isolatedTests), fmt.Sprintf("%.0f", rate),
		">= 1200", rate >= 1200)
	return nil
}

// withDisk takes snapshots of two equal guests in turns, one of which has a disk of
// 1 GiB of which 10 MiB change in between.
func (b *bench) withDisk(ctx context.Context) (err error) {
	const size, changed = 1 << 30, 10 << 20
	l, err := b.lab()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(append(l.CloseScope(ctx), err)...) }()
	var vms [2]*lab.VM
	for i, name := range []string{"without", "with"} {
		if vms[i], err = l.DeclareVM(name, "host", &topology.BootOpts{Memory: guestMemory}); err != nil {
			return err
		}
		if err := vms[i].Boot(ctx, nil); err != nil {
			return err
		}
	}
	d, err := vms[1].AttachDisk(ctx, disk.Spec{ID: "d", Scratch: size})
	if err != nil {
		return err
	}
	p := make([]byte, 1<<20)
	for i := range p {
		p[i] = byte(i%251 + 1)
	}
	write := func(from, to int64) error {
		for at := from; at < to; at += int64(len(p)) {
			p[0]++
			if err := d.WriteSectors(ctx, at/disk.SectorSize, p); err != nil {
				return err
			}
		}
		return nil
	}
	if err := write(0, size); err != nil {
		return err
	}
	var took [2]sample
	for round := range int64(withDiskRounds) {
		if err := write(round*changed, (round+1)*changed); err != nil {
			return err
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
	b.table.judge("snapshot with a disk of 1 GiB, 10 MiB changed",
		fmt.Sprintf("%s more than %s without", short(more), short(took[0].median())),
		"<= 20ms more", more <= 20*time.Millisecond)
	return nil
}

// labResets measures what a test of a file with reset_between_tests waits for: the
// whole lab goes back, and its guest was made while the test before ran.
func (b *bench) labResets(ctx context.Context) (err error) {
	l, err := b.lab()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(append(l.CloseScope(ctx), err)...) }()
	vm, err := l.DeclareVM("vm", "host", &topology.BootOpts{Memory: guestMemory})
	if err != nil {
		return err
	}
	if err := vm.Boot(ctx, nil); err != nil {
		return err
	}
	baseline, err := l.Snapshot(ctx, "")
	if err != nil {
		return err
	}
	var all sample
	for range labRounds {
		if err := l.Prepare(ctx, baseline.Path()); err != nil {
			return err
		}
		time.Sleep(1500 * time.Millisecond) // the test
		start := time.Now()
		if err := l.Restore(ctx, baseline.Path()); err != nil {
			return err
		}
		all = append(all, time.Since(start))
	}
	b.table.judge("reset between tests", all.String(), "<= 35ms", all.median() <= 35*time.Millisecond)
	return baseline.Delete()
}
