//go:build bench

package main

import (
	"context"
	"errors"
	"time"

	"provium/internal/guest"
	"provium/internal/topology"
)

const bootRounds = 9

// boot compares a VM's way from Boot to its first completed operation with
// plain QEMU's way to an init that prints a line.
func (b *bench) boot(ctx context.Context) error {
	var ours, first, raw sample
	for range bootRounds {
		t, run, err := b.labBoot(ctx)
		if err != nil {
			return err
		}
		ours, first = append(ours, t), append(first, run)
		if t, err = b.rawBoot(ctx); err != nil {
			return err
		}
		raw = append(raw, t)
	}
	b.table.atMost("cold boot to first completed op / raw QEMU to a line from init", ours, 1.15, raw)
	b.table.info("  first vm:run after that", first.String(), "", "")
	return nil
}

// labBoot measures Boot and a first operation, and then a first command.
func (b *bench) labBoot(ctx context.Context) (op, run time.Duration, err error) {
	l, err := b.lab()
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(append(l.CloseScope(ctx), err)...) }()
	vm, err := l.DeclareVM("a", "host", &topology.BootOpts{Memory: guestMemory, Cold: new(true)})
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := vm.Boot(ctx, nil); err != nil {
		return 0, 0, err
	}
	if err := vm.Ping(ctx); err != nil {
		return 0, 0, err
	}
	op = time.Since(start)
	start = time.Now()
	_, err = vm.Run(ctx, guest.RunRequest{Shell: "true"})
	return op, time.Since(start), err
}
