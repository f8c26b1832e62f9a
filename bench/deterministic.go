//go:build bench

package main

import (
	"context"
	"errors"
	"time"

	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/machine"
	"provium/internal/topology"
)

const (
	deterministicRounds = 3
	deterministicPings  = 300
	// deterministicLoop is a shell that does nothing but count.
	deterministicLoop = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
)

// deterministic compares deterministic guests with others, both emulated.
func (b *bench) deterministic(ctx context.Context) error {
	var boots, loops, pings [2]sample
	var hours sample
	for range deterministicRounds {
		for i, is := range []bool{false, true} {
			err := b.emulated(ctx, is, &boots[i], func(vm *lab.VM) error {
				if err := timed(&loops[i], func() error { return runText(ctx, vm, deterministicLoop) }); err != nil {
					return err
				}
				for range deterministicPings {
					if err := timed(&pings[i], func() error { return vm.Ping(ctx) }); err != nil {
						return err
					}
				}
				if !is {
					return nil
				}
				return timed(&hours, func() error { return runText(ctx, vm, "sleep 3600") })
			})
			if err != nil {
				return err
			}
		}
	}
	b.table.atMost("deterministic guest: cold boot / of others", boots[1], 1.6, boots[0])
	b.table.atMost("… a busy loop", loops[1], 3, loops[0])
	b.table.atMost("… the smallest op", pings[1], 4, pings[0])
	b.table.judge("… an hour in which it does nothing", hours.String(), "<= 10 s", hours.median() <= 10*time.Second)
	return nil
}

// emulated boots a guest that may be deterministic, and measures in it.
func (b *bench) emulated(ctx context.Context, deterministic bool, boots *sample, measure func(*lab.VM) error) (
	err error) {
	h, err := b.host()
	if err != nil {
		return err
	}
	h.Profiles["host"].Accel = "tcg"
	l := lab.New(h)
	defer func() { err = errors.Join(append(l.CloseScope(ctx), err)...) }()
	vm, err := l.DeclareVM("a", "host", &topology.BootOpts{Memory: guestMemory, Cold: new(true),
		Shape: machine.Shape{Deterministic: &deterministic}})
	if err != nil {
		return err
	}
	err = timed(boots, func() error { return errors.Join(vm.Boot(ctx, nil), vm.Ping(ctx)) })
	if err != nil {
		return err
	}
	return measure(vm)
}

// timed adds how long something takes.
func timed(to *sample, do func() error) error {
	begun := time.Now()
	err := do()
	*to = append(*to, time.Since(begun))
	return err
}

func runText(ctx context.Context, vm *lab.VM, text string) error {
	_, err := vm.Run(ctx, guest.RunRequest{Shell: text})
	return err
}
