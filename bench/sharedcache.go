//go:build bench

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	sharedCacheRounds = 3
	// pulledTarget is how long the first run of examples/ may take with a shared cache, as a part of
	// that without.
	pulledTarget = 1.0 / 3
)

// sharedCache measures the first run of examples/ for users with an empty cache: without a shared
// cache, and after a pull from one.
func (b *bench) sharedCache(ctx context.Context) error {
	program, err := filepath.Abs(programFile)
	if err != nil {
		return err
	}
	shared := filepath.Join(b.dir, "shared")
	run := func(cache string, args ...string) (time.Duration, error) {
		begun := time.Now()
		stdout, stderr, err := b.starter.Run(ctx, "examples", []string{"XDG_CACHE_HOME=" + cache}, program, args...)
		if err != nil {
			err = fmt.Errorf("%w\n%s%s", err, stdout, stderr)
		}
		return time.Since(begun), err
	}
	var empty, pull, pulled, full sample
	for round := range sharedCacheRounds {
		one := filepath.Join(b.dir, fmt.Sprint("empty", round))
		two := filepath.Join(b.dir, fmt.Sprint("pulled", round))
		for _, step := range []struct {
			cache string
			args  []string
			to    *sample
		}{
			{one, nil, &empty},
			{one, []string{"cache", "push", "oci:" + shared}, nil},
			{two, []string{"cache", "pull", "oci:" + shared}, &pull},
			{two, nil, &pulled},
			{two, nil, &full},
		} {
			took, err := run(step.cache, step.args...)
			if err != nil {
				return err
			}
			if step.to != nil {
				*step.to = append(*step.to, took)
			}
		}
		for _, dir := range []string{one, two} {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	b.table.atMost("first run of examples/ after a pull / without", pulled, pulledTarget, empty)
	b.table.floor("… the pull / the first without", pull, empty)
	b.table.floor("… a later run / the first without", full, empty)
	return nil
}
