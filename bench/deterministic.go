//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/machine"
	"provium/internal/recording"
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

const (
	recordedRounds = 5
	// recordedWork is what a busy guest does: it counts, starts processes, and draws and hashes random bytes.
	recordedWork = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; " +
		"for i in $(seq 50); do head -c 20000 /dev/urandom | md5sum >/dev/null; done; cut -d ' ' -f 1 /proc/uptime"
	recordedOps = 100
)

// recorded compares guests that are recorded with others, both emulated and from the boot cache.
func (b *bench) recorded(ctx context.Context) error {
	var times [2]sample
	kept, span := 0.0, 0.0 // bytes of logs as they are kept, seconds of the guests' time
	for range recordedRounds {
		for i, is := range []bool{false, true} {
			h, err := b.host()
			if err != nil {
				return err
			}
			h.BootCache = filepath.Join(b.dir, "recorded")
			h.Profiles["host"].Accel = "tcg"
			opts := &topology.BootOpts{Memory: guestMemory, Shape: machine.Shape{Record: is}}
			err = b.withVM(ctx, h, opts, func(vm *lab.VM) error {
				if len(times[i]) == 0 { // fills the cache
					if err := vm.Boot(ctx, nil); err != nil {
						return err
					}
					if err := vm.Shutdown(ctx); err != nil {
						return err
					}
				}
				return nil
			})
			if err == nil {
				err = b.withVM(ctx, h, opts, func(vm *lab.VM) error {
					return b.recordedRun(ctx, vm, &times[i], &kept, &span)
				})
			}
			if err != nil {
				return err
			}
		}
	}
	b.table.atMost("recorded guest, busy, from the boot cache / not recorded", times[1], 2.5, times[0])
	rate := kept / span / 1000
	b.table.judge("… its log, as it is kept", fmt.Sprintf("%.1f KB per second of its time", rate), "<= 50 KB",
		rate <= 50)
	return nil
}

// recordedRun measures a guest, and if it is recorded, its log.
func (b *bench) recordedRun(ctx context.Context, vm *lab.VM, times *sample, kept, span *float64) error {
	var up [2]float64
	uptime := func(shell string) (float64, error) {
		r, err := vm.Run(ctx, guest.RunRequest{Shell: shell})
		if err != nil {
			return 0, err
		}
		return strconv.ParseFloat(strings.TrimSpace(string(r.Stdout)), 64)
	}
	begun := time.Now()
	err := vm.Boot(ctx, nil)
	if err == nil {
		up[0], err = uptime("cut -d ' ' -f 1 /proc/uptime")
	}
	for n := 0; n < recordedOps && err == nil; n++ {
		err = runText(ctx, vm, "true")
	}
	if err == nil {
		up[1], err = uptime(recordedWork)
	}
	if err != nil {
		return err
	}
	*times = append(*times, time.Since(begun))
	if err := vm.Shutdown(ctx); err != nil {
		return err
	}
	tape, err := vm.Inspect().Tape()
	if err != nil || tape == nil {
		return err
	}
	<-tape.Done
	return tape.Save("", false, func(name, _ string, write func(io.Writer) error) {
		var n counter
		if strings.HasSuffix(name, recording.LogFile) && write(&n) == nil {
			*kept, *span = *kept+float64(n), *span+up[1]-up[0]
		}
	})
}

// counter counts what is written.
type counter int

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
