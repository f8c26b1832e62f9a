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
	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/topology"
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
	cache := &fixture.Cache{Dir: filepath.Join(dir, "cache"), Program: "bench"}
	source := fixture.Source{Name: "bench", Path: files[0]}
	if err := b.onHost(ctx, cache, func(l *lab.Lab, h *lab.Host) error {
		return buildFixture(ctx, l, h, cache, source, files)
	}); err != nil {
		return err
	}
	var f fixtureSamples
	for range fixtureRounds {
		err := b.onHost(ctx, cache, func(l *lab.Lab, h *lab.Host) error {
			return f.round(ctx, l, h, cache, source, files)
		})
		if err != nil {
			return err
		}
	}
	b.table.atMost(fmt.Sprintf("fixture of %d files, first in a file, to first completed op / cold boot and set-up",
		fixtureFiles), f.first, 0.04, f.cold)
	b.table.atMost("  the third in a file / cold boot and set-up", f.third, 0.02, f.cold)
	b.table.info("  of it looking it up / a stat of each file", f.find.String(), f.stat.String(),
		fmt.Sprintf("%.2f", float64(f.find.median())/float64(f.stat.median())))
	return nil
}

// onHost does something in a lab of a host of its own, as each test file has one.
func (b *bench) onHost(ctx context.Context, cache *fixture.Cache, do func(*lab.Lab, *lab.Host) error) error {
	h, err := b.host()
	if err != nil {
		return err
	}
	cache.Profile = h.ProfileDigest
	l := lab.New(h)
	err = do(l, h)
	return errors.Join(append(l.CloseScope(context.WithoutCancel(ctx)), err)...)
}

type fixtureSamples struct{ first, third, find, stat, cold sample }

// round restores three times. The last one finds a guest that was restored while
// the reference ran.
func (f *fixtureSamples) round(ctx context.Context, l *lab.Lab, h *lab.Host, cache *fixture.Cache,
	source fixture.Source, files []string) error {
	restore := func() (took time.Duration, err error) {
		start := time.Now()
		e, reason, err := cache.Find(ctx, source)
		if err != nil || e == nil {
			return 0, fmt.Errorf("the fixture was not found: %s: %w", reason, err)
		}
		defer e.Close()
		f.find = append(f.find, time.Since(start))
		if err := cache.Verify(ctx, e); err != nil {
			return 0, err
		}
		h.Trust(e.Verified...)
		vm, err := l.DeclareFrom(e.Label, e.Profile)
		if err != nil {
			return 0, err
		}
		if err := vm.Restore(ctx, e.Path); err != nil {
			return 0, err
		}
		if err := vm.Ping(ctx); err != nil {
			return 0, err
		}
		took = time.Since(start)
		return took, errors.Join(vm.Close(ctx), l.Remove(vm))
	}
	took, err := restore()
	if err != nil {
		return err
	}
	f.first = append(f.first, took)
	if _, err := restore(); err != nil {
		return err
	}

	start := time.Now()
	for _, path := range files {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	f.stat = append(f.stat, time.Since(start))
	start = time.Now()
	vm, err := setUpGuest(ctx, l)
	if err != nil {
		return err
	}
	f.cold = append(f.cold, time.Since(start))
	if err := errors.Join(vm.Close(ctx), l.Remove(vm)); err != nil {
		return err
	}

	took, err = restore()
	f.third = append(f.third, took)
	return err
}

// setUpGuest boots a guest and does what the fixture is there for.
func setUpGuest(ctx context.Context, l *lab.Lab) (*lab.VM, error) {
	vm, err := l.DeclareVM("box", "host", &topology.BootOpts{Memory: guestMemory, Cold: new(true)})
	if err != nil {
		return nil, err
	}
	if err := vm.Boot(ctx, nil); err != nil {
		return nil, err
	}
	r, err := vm.Run(ctx, guest.RunRequest{Shell: fixtureSetUp})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("set-up: exit code %d: %s", r.ExitCode, r.Stderr)
	}
	return vm, err
}

func buildFixture(ctx context.Context, l *lab.Lab, h *lab.Host, cache *fixture.Cache, source fixture.Source,
	files []string) error {
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
	e, err := cache.Install(source, &trace, fixture.Built{Kind: fixture.VM, Label: s.VM(), Profile: s.Profile(),
		Path: path})
	if err != nil {
		return err
	}
	e.Close()
	return errors.Join(vm.Close(ctx), l.Remove(vm))
}
