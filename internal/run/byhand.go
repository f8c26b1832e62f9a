package run

import (
	"context"
	"fmt"
	"os"

	"provium/internal/config"
	"provium/internal/event"
	"provium/internal/lab"
	"provium/internal/preparation"
	"provium/internal/script"
	"provium/internal/tempdir"
)

// ByHand boots guests outside of a run of tests, for a person or for another program. It is
// for one goroutine.
type ByHand struct {
	o      Options
	temp   *tempdir.Dir
	shared *machinery
	host   *lab.Host
	stop   func() // what serves the guests to visitors
}

// OpenByHand prepares guests of profiles of the configuration, whose build commands run
// first. The profiles must be there; without any, all are meant. Close must be called.
func OpenByHand(ctx context.Context, o Options, profiles ...string) (b *ByHand, err error) {
	b = &ByHand{o: o, shared: newMachinery()}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	tempdir.Sweep(o.TempBase)
	if b.temp, err = tempdir.New(o.TempBase); err != nil {
		return nil, err
	}
	wanted := map[string]config.Profile{}
	for _, name := range profiles {
		wanted[name] = o.Config.Profiles[name]
	}
	if len(profiles) == 0 {
		wanted = o.Config.Profiles
	}
	if err := preparation.BuildProfiles(ctx, b.shared.starter, wanted, o.Stderr, nil); err != nil {
		return nil, err
	}
	// One guest is started sooner by itself than by a copy of a QEMU that is loaded for it.
	j := o.job(Candidate{}, b.temp.Path())
	if b.host, err = newHost(j, b.shared, b.shared.starter, nil, func(event.Event) {}); err != nil {
		return nil, err
	}
	b.host.NoPrewarming = true
	b.host.Warn = func(format string, args ...any) {
		fmt.Fprintf(o.Stderr, "provium: %s\n", fmt.Sprintf(format, args...))
	}
	b.stop = serveGuests(b.host, nil)
	return b, nil
}

// Host returns what the labs of the guests share.
func (b *ByHand) Host() *lab.Host { return b.host }

// Converse runs what a person types. It completes i with what it takes from the host and the
// configuration. The working directory of the process becomes the project, as Lua expects.
func (b *ByHand) Converse(ctx context.Context, i script.Interactive) error {
	cfg := b.o.Config
	if err := os.Chdir(cfg.Dir); err != nil {
		return fmt.Errorf("project directory: %w", err)
	}
	i.Env = script.Env{Project: cfg.Dir, Roots: cfg.Roots, Host: b.host, Stdout: b.o.Stdout, Stderr: b.o.Stderr}
	if cfg.CacheDir != "" {
		i.Env.Fixtures = fixtureCache(b.host, cfg.CacheDir, b.o.Version)
	}
	return script.Converse(ctx, i)
}

// Close removes what the guests have left. They must have ended.
func (b *ByHand) Close() {
	if b.stop != nil {
		b.stop()
	}
	b.shared.close()
	if b.temp != nil {
		if err := b.temp.Remove(); err != nil {
			fmt.Fprintf(os.Stderr, "provium: %v\n", err)
		}
	}
}
