//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"provium/internal/fixture"
	"provium/internal/lab"
)

const (
	fixtureRounds = 12
	fixtureFiles  = 1000 // of the host, that the build has used
	fixtureSetUp  = "mkdir -p /srv && for i in $(seq 20); do echo $i > /srv/$i; sha256sum /srv/$i >> /srv/sums; done"
)

// fixture compares a VM from a fixture in the cache, with all that its record
// asks to be looked at, with a cold boot and the set-up.
func (b *bench) fixture(ctx context.Context) error {
	dir, err := os.MkdirTemp(b.dir, "fixture")
	if err != nil {
		return err
	}
	files := make([]string, fixtureFiles)
	for i := range files {
		files[i] = filepath.Join(dir, fmt.Sprintf("used-%d", i))
		if err := os.WriteFile(files[i], fmt.Append(nil, i), 0o600); err != nil {
			return err
		}
	}
	h, err := b.host()
	if err != nil {
		return err
	}
	l := lab.New(h)
	cache := &fixture.Cache{Dir: filepath.Join(dir, "cache"), Program: "bench", Profile: h.ProfileDigest}
	source := fixture.Source{Name: "bench", Path: files[0]}
	err = b.fixtureFigures(ctx, l, h, cache, source, files)
	return errors.Join(append(l.CloseScope(context.WithoutCancel(ctx)), err)...)
}

func (b *bench) fixtureFigures(ctx context.Context, l *lab.Lab, h *lab.Host, cache *fixture.Cache, source fixture.Source, files []string) error {
	if err := buildFixture(ctx, l, h, cache, source, files); err != nil {
		return err
	}
	var hit, find, stat, cold sample
	for range fixtureRounds {
		start := time.Now()
		e, reason, err := cache.Find(ctx, source)
		if err != nil || e == nil {
			return fmt.Errorf("the fixture was not found: %s: %w", reason, err)
		}
		find = append(find, time.Since(start))
		if err := cache.Verify(ctx, e); err != nil {
			return err
		}
		h.Trust(e.Verified...)
		vm, err := l.DeclareFrom(e.Label, e.Profile)
		if err != nil {
			return err
		}
		if err := errors.Join(vm.Restore(ctx, e.Path), vm.Ping(ctx)); err != nil {
			return err
		}
		hit = append(hit, time.Since(start))
		e.Close()
		if err := errors.Join(vm.Close(ctx), l.Remove(vm)); err != nil {
			return err
		}

		start = time.Now()
		for _, f := range files {
			if _, err := os.Stat(f); err != nil {
				return err
			}
		}
		stat = append(stat, time.Since(start))

		start = time.Now()
		if vm, err = setUpGuest(ctx, l); err != nil {
			return err
		}
		cold = append(cold, time.Since(start))
		if err := errors.Join(vm.Close(ctx), l.Remove(vm)); err != nil {
			return err
		}
	}
	b.table.atMost(fmt.Sprintf("fixture of %d files to first completed op / cold boot and its set-up", fixtureFiles), hit, 0.04, cold)
	b.table.info("  of it looking it up / a stat of each file", find.String(), stat.String(), fmt.Sprintf("%.2f", float64(find.median())/float64(stat.median())))
	return nil
}

// setUpGuest boots a guest and does what the fixture is there for.
func setUpGuest(ctx context.Context, l *lab.Lab) (*lab.VM, error) {
	vm, err := l.DeclareVM("box", "host", &lab.BootOpts{Memory: guestMemory, Cold: new(true)})
	if err != nil {
		return nil, err
	}
	if err := vm.Boot(ctx, nil); err != nil {
		return nil, err
	}
	r, err := vm.Run(ctx, lab.RunRequest{Shell: fixtureSetUp})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("set-up: exit code %d: %s", r.ExitCode, r.Stderr)
	}
	return vm, err
}

func buildFixture(ctx context.Context, l *lab.Lab, h *lab.Host, cache *fixture.Cache, source fixture.Source, files []string) error {
	vm, err := setUpGuest(ctx, l)
	if err != nil {
		return err
	}
	// By now the files have rested, so that their times tell that they are the same.
	var trace fixture.Trace
	for _, f := range files {
		if err := trace.File(f); err != nil {
			return err
		}
	}
	digest, err := h.ProfileDigest(ctx, "host")
	if err != nil {
		return err
	}
	trace.Profile("host", digest)
	path, err := cache.TempPath()
	if err != nil {
		return err
	}
	s, err := vm.Snapshot(ctx, path)
	if err != nil {
		return err
	}
	e, err := cache.Install(source, &trace, fixture.Built{Kind: fixture.VM, Label: s.VM(), Profile: s.Profile(), Path: path})
	if err != nil {
		return err
	}
	e.Close()
	return errors.Join(vm.Close(ctx), l.Remove(vm))
}
