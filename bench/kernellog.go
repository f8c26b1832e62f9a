//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"provium/internal/lab"
	"provium/internal/topology"
)

const (
	kernelLogRounds = 30
	kernelLogTarget = 50 * time.Millisecond
)

// kernelLog measures how long the log of a guest's kernel takes that is read from its memory,
// with and without knowing where that is, beside the agent's answer.
func (b *bench) kernelLog(ctx context.Context) (err error) {
	l, err := b.lab()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(append(l.CloseScope(ctx), err)...) }()
	booted, err := l.DeclareVM("log", "host", &topology.BootOpts{Memory: 512 << 20, Cold: new(true)})
	if err != nil {
		return err
	}
	if err := booted.Boot(ctx, nil); err != nil {
		return err
	}
	forks, err := booted.Fork(ctx, l, 1)
	if err != nil {
		return err
	}
	for _, g := range []struct {
		name string
		vm   *lab.VM
	}{{"booted", booted}, {"restored", forks[0]}} {
		var searched, known, agent sample
		for range kernelLogRounds {
			g.vm.Inspect().Places.Forget()
			for _, s := range []*sample{&searched, &known} {
				start := time.Now()
				records, err := g.vm.Inspect().KernelLog(ctx)
				if err != nil || len(records) == 0 {
					return fmt.Errorf("kernel log: %d records, %w", len(records), err)
				}
				*s = append(*s, time.Since(start))
			}
			start := time.Now()
			if _, err := g.vm.AsActor().KernelLog(ctx); err != nil {
				return err
			}
			agent = append(agent, time.Since(start))
		}
		b.table.judge("kernel log from the memory of a "+g.name+" guest of 512 MiB, searched for", searched.String(),
			"<= 50 ms", searched.median() <= kernelLogTarget)
		b.table.info("  its place known", known.String(), agent.String()+" (by the agent)", "")
	}
	return nil
}
