//go:build bench

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const programFile = "bin/provium"

// wholeRun runs the program on four files with ten guests between them. The
// reference is ten plain guests one after the other.
func (b *bench) wholeRun(ctx context.Context) error {
	dir, err := os.MkdirTemp(b.dir, "run")
	if err != nil {
		return err
	}
	program, err := filepath.Abs(programFile)
	if err != nil {
		return err
	}
	info, err := os.Stat(program)
	if err != nil {
		return fmt.Errorf("%w; run make build", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "provium.toml"), []byte("[profiles.host]\n"), 0o600); err != nil {
		return err
	}
	total := 0
	for file, guests := range []int{3, 3, 2, 2} {
		var text strings.Builder
		for i := range guests {
			fmt.Fprintf(&text, "test(\"boots %d\", function(t)\n  local vm = provium:vm(\"v%d\", \"host\", {cold = true}):boot()\n  t:assert(vm:run(\"true\"):ok())\nend)\n", i, i)
		}
		total += guests
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d.test.lua", file)), []byte(text.String()), 0o600); err != nil {
			return err
		}
	}
	var ours, raw sample
	for range 2 {
		start := time.Now()
		stdout, stderr, err := b.starter.Run(ctx, dir, nil, program)
		if err != nil {
			return fmt.Errorf("%w\n%s%s", err, stdout, stderr)
		}
		ours = append(ours, time.Since(start))
		start = time.Now()
		for range total {
			if _, err := b.rawBoot(ctx); err != nil {
				return err
			}
		}
		raw = append(raw, time.Since(start))
	}
	b.table.info(fmt.Sprintf("provium, 4 files, %d guests / as many raw boots in a row", total), ours.String(), raw.String(),
		fmt.Sprintf("%.2f", float64(ours.median())/float64(raw.median())))
	b.table.info("host binary, agent and busybox included", mib(uint64(info.Size())), "", "")
	return nil
}
