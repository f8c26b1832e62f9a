//go:build bench

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"provium/internal/disk"
	"provium/internal/lab"
	"provium/internal/topology"
)

const (
	cachedDiskRounds = 20 // a cold boot in every fourth
	cachedDiskSize   = 256 << 20
)

// cachedDiskBoots measures boots with a scratch disk that the boot cache serves, in
// turns with boots of the same guest and disk that are real.
func (b *bench) cachedDiskBoots(ctx context.Context) error {
	dir := filepath.Join(b.dir, "diskboots")
	var cached, cold sample
	boot := func(really bool) (t time.Duration, err error) {
		h, err := b.host()
		if err != nil {
			return 0, err
		}
		h.BootCache = dir
		opts := &topology.BootOpts{Cold: &really, Disks: []disk.Spec{{ID: "data", Scratch: cachedDiskSize}}}
		err = b.withVM(ctx, h, opts, func(vm *lab.VM) error {
			t, err = clock(ctx, vm, func() error { return vm.Boot(ctx, nil) })
			return err
		})
		return t, err
	}
	if _, err := boot(false); err != nil { // fills the cache
		return err
	}
	for round := range cachedDiskRounds {
		if round%4 == 0 {
			t, err := boot(true)
			if err != nil {
				return err
			}
			cold = append(cold, t)
		}
		t, err := boot(false)
		if err != nil {
			return err
		}
		cached = append(cached, t)
	}
	b.table.compare(row{figure: "boot with a scratch disk from the boot cache to first completed op",
		value: cached.String(), reference: cold.String(),
		ratio: fmt.Sprintf("%.3f", float64(cached.median())/float64(cold.median())), target: "<= 110 ms"},
		cached.median() <= 110*time.Millisecond)
	return nil
}
