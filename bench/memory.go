//go:build bench

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"provium/internal/guest"
	"provium/internal/topology"
)

// runner runs commands in a guest: a lab's VM or a bare agent link.
type runner interface {
	Run(ctx context.Context, r guest.RunRequest) (*guest.RunResult, error)
}

// kilobytes reads the lines "Name:  N kB" of a file in the guest's /proc.
func kilobytes(ctx context.Context, g runner, command string) (map[string]uint64, error) {
	r, err := g.Run(ctx, guest.RunRequest{Shell: command})
	if err != nil {
		return nil, err
	}
	values := map[string]uint64{}
	sc := bufio.NewScanner(strings.NewReader(string(r.Stdout)))
	for sc.Scan() {
		name, rest, _ := strings.Cut(sc.Text(), ":")
		f := strings.Fields(rest)
		if len(f) != 2 || f[1] != "kB" {
			continue
		}
		if n, err := strconv.ParseUint(f[0], 10, 64); err == nil {
			values[name] = n << 10
		}
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("guest command %q gave no sizes: %s%s", command, r.Stdout, r.Stderr)
	}
	return values, nil
}

// agentStatus reads a file of sizes in /proc/PID of the agent.
func agentStatus(ctx context.Context, g runner, file string) (map[string]uint64, error) {
	return kilobytes(ctx, g,
		`for d in /proc/[0-9]*; do case "$(tr '\0' ' ' <$d/cmdline)" in @provium-agent*) cat $d/`+file+`;; esac; done`)
}

func mib(bytes uint64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// memory looks at the agent in an idle guest, and at a small guest.
func (b *bench) memory(ctx context.Context) (err error) {
	l, err := b.lab()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(append(l.CloseScope(ctx), err)...) }()
	idle, err := l.DeclareVM("idle", "host", &topology.BootOpts{Memory: guestMemory, Cold: new(true)})
	if err != nil {
		return err
	}
	if err := idle.Boot(ctx, nil); err != nil {
		return err
	}
	// The counters in its status lag behind by up to 256 KiB for each thread.
	sizes, err := agentStatus(ctx, idle, "smaps_rollup")
	if err != nil {
		return err
	}
	rss := sizes["Rss"]
	b.table.judge("idle agent's RSS", mib(rss), "<= 16 MiB", rss > 0 && rss <= 16<<20)
	b.table.info("  of it not shared with its file", mib(sizes["Anonymous"]), "", "")
	if err := idle.Shutdown(ctx); err != nil {
		return err
	}
	const small = 128 << 20
	vm, err := l.DeclareVM("small", "host", &topology.BootOpts{Memory: small, Cold: new(true)})
	if err != nil {
		return err
	}
	if err := vm.Boot(ctx, nil); err != nil {
		b.table.judge("guest of 128 MiB", err.Error(), "runs commands", false)
		return nil
	}
	free, err := kilobytes(ctx, vm, "cat /proc/meminfo")
	ok := err == nil && free["MemAvailable"] > 0
	b.table.judge("guest of 128 MiB: memory available", mib(free["MemAvailable"])+" of "+mib(free["MemTotal"]),
		"runs commands", ok)
	return nil
}
