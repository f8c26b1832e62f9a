//go:build bench

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/topology"
)

const execRounds = 20

// exec compares `provium exec -- true`, served from the boot cache, with the same inside a
// process that is there already: a restore, a command, the end of the guest.
func (b *bench) exec(ctx context.Context) error {
	program, err := filepath.Abs(programFile)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.dir, "exec")
	if err != nil {
		return err
	}
	whole := func() (time.Duration, error) {
		begun := time.Now()
		stdout, stderr, err := b.starter.Run(ctx, dir, nil, program, "exec", "--", "true")
		if err != nil {
			err = fmt.Errorf("%w\n%s%s", err, stdout, stderr)
		}
		return time.Since(begun), err
	}
	if _, err := whole(); err != nil { // fills the boot cache
		return err
	}
	var exec, restore sample
	for range execRounds {
		took, err := whole()
		if err != nil {
			return err
		}
		exec = append(exec, took)
		if took, err = b.restoreAndRun(ctx); err != nil {
			return err
		}
		restore = append(restore, took)
	}
	b.table.atMost("exec -- true from the boot cache / restore and run", exec, 1.3, restore)
	return nil
}

// restoreAndRun restores a guest from the boot cache, runs a command in it and ends it. The
// host is new, as that of a program that begins.
func (b *bench) restoreAndRun(ctx context.Context) (time.Duration, error) {
	h, err := b.host()
	if err != nil {
		return 0, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return 0, err
	}
	h.Starter, h.NoPrewarming, h.BootCache = b.starter, true, filepath.Join(cache, "provium", "boots")
	begun := time.Now()
	err = b.withVM(ctx, h, &topology.BootOpts{}, func(vm *lab.VM) error {
		if err := vm.Boot(ctx, nil); err != nil {
			return err
		}
		r, err := vm.Run(ctx, guest.RunRequest{Path: "true"})
		if err == nil && r.ExitCode != 0 {
			err = fmt.Errorf("true: exit code %d", r.ExitCode)
		}
		return err
	})
	return time.Since(begun), err
}
