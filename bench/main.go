//go:build bench

// Command bench measures Provium on real guests and prints one table. Each
// figure is set against a reference that is measured in the same run, in turns
// with it, so that the ratio means something on any machine, also on a busy one:
// plain QEMU, a bare virtio-serial port, a C loop inside the guest.
//
// It judges nothing but the ratios and always exits 0 when it could measure.
// The names of figures may be given as arguments to measure only those.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// measurement is a group of figures that share guests.
type measurement struct {
	name string
	take func(b *bench, ctx context.Context) error
}

// measurements are taken in this order.
var measurements = [...]measurement{
	{"boot", (*bench).boot},
	{"link", (*bench).link},
	{"calls", (*bench).calls},
	{"surface", (*bench).surface},
	{"network", (*bench).network},
	{"memory", (*bench).memory},
	{"kernellog", (*bench).kernelLog},
	{"fixture", (*bench).fixture},
	{"disk", (*bench).disks},
	{"explorer", (*bench).explorer},
	{"attach", (*bench).attach},
	{"snapshot", (*bench).snapshots},
	{"exec", (*bench).exec},
	{"userland", (*bench).userland},
	{"image", (*bench).userlandImage},
	{"deterministic", (*bench).deterministic},
	{"recorded", (*bench).recorded},
	{"caches", (*bench).sharedCache},
	{"run", (*bench).wholeRun},
	{"later", (*bench).laterFiles},
	{"events", (*bench).events},
	{"files", (*bench).files},
}

func names() []string {
	var out []string
	for _, m := range measurements {
		out = append(out, m.name)
	}
	return out
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, only []string) error {
	for _, name := range only {
		if !slices.ContainsFunc(measurements[:], func(m measurement) bool { return m.name == name }) {
			return fmt.Errorf("no figure %q (%s)", name, strings.Join(names(), ", "))
		}
	}
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	var failed error
	for _, m := range measurements {
		if len(only) > 0 && !slices.Contains(only, m.name) {
			continue
		}
		start := time.Now()
		if err := m.take(b, ctx); err != nil {
			failed = fmt.Errorf("%s: %w", m.name, err)
			break
		}
		fmt.Fprintf(os.Stderr, "bench: %s took %.0f s\n", m.name, time.Since(start).Seconds())
	}
	b.table.print(os.Stdout)
	return failed
}
