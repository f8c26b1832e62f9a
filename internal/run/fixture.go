package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"provium/internal/event"
	"provium/internal/fixture"
	"provium/internal/image"
	"provium/internal/lab"
	"provium/internal/preparation"
	"provium/internal/script"
	"provium/internal/script/fixtures"
	"provium/internal/snapshot"
	"provium/internal/tempdir"
)

// fixtureCache is the cache at dir as a process with that host sees it.
func fixtureCache(host *lab.Host, dir, version string) *fixture.Cache {
	return &fixture.Cache{
		Dir: dir, Program: version + ", snapshots " + snapshot.Form(),
		Warn:    func(text string) { host.Warn("%s", text) },
		Profile: func(ctx context.Context, name string) (string, error) { return host.ProfileDigest(ctx, name) },
	}
}

// Workshop builds fixtures and fills caches outside of a run, without a pool. It
// is for one goroutine.
type Workshop struct {
	o      Options
	temp   *tempdir.Dir
	shared *machinery
	host   *lab.Host
	cache  *fixture.Cache
}

// OpenWorkshop prepares one; the build commands of the profiles run first. The
// working directory of the process becomes the project, as fixtures expect it.
func OpenWorkshop(ctx context.Context, o Options) (w *Workshop, err error) {
	w = &Workshop{o: o, shared: newMachinery()}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if err := os.Chdir(o.Config.Dir); err != nil {
		return nil, fmt.Errorf("project directory: %w", err)
	}
	tempdir.Sweep(o.TempBase)
	if w.temp, err = tempdir.New(o.TempBase); err != nil {
		return nil, err
	}
	if err := preparation.BuildProfiles(ctx, w.shared.starter, o.Config.Profiles, o.Stderr, nil); err != nil {
		return nil, err
	}
	j := o.job(Candidate{Path: "provium"}, w.temp.Path())
	if w.host, err = newHost(j, w.shared, w.shared.copies, nil, func(event.Event) {}); err != nil {
		return nil, err
	}
	w.cache = fixtureCache(w.host, o.Config.CacheDir, o.Version)
	return w, nil
}

// Close ends it.
func (w *Workshop) Close() {
	w.shared.close()
	if w.temp != nil {
		w.temp.Remove()
	}
}

// Source finds a fixture by its name or by the path of its file.
func (o *Options) Source(nameOrPath string) (fixture.Source, error) {
	cfg := o.Config
	if s, _, err := fixtures.Find(cfg.Roots, nameOrPath); err == nil {
		return s, nil
	}
	if strings.HasSuffix(nameOrPath, fixtureSuffix) {
		path := inDir(o.Select.WorkDir, nameOrPath)
		if _, err := os.Stat(path); err != nil {
			return fixture.Source{}, fmt.Errorf("fixture `%s`: %w", nameOrPath, errors.Unwrap(err))
		}
		var names []string
		for _, root := range cfg.Roots {
			if rel, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(rel) {
				names = append(names, strings.TrimSuffix(rel, fixtureSuffix))
			}
		}
		for _, name := range names {
			if s, _, err := fixtures.Find(cfg.Roots, name); err == nil && s.Path == path && len(names) == 1 {
				return s, nil
			}
		}
		switch len(names) {
		case 0:
			return fixture.Source{}, fmt.Errorf("fixture `%s` is below no root (roots: %s)",
				nameOrPath, strings.Join(cfg.Roots, ", "))
		case 1:
			return fixture.Source{}, fmt.Errorf(
				"fixture `%s` is ambiguous: another root has a `%s`, which is found first", nameOrPath, names[0])
		}
		return fixture.Source{}, fmt.Errorf(
			"fixture `%s` is ambiguous: roots give it the names `%s` (give the one you mean)",
			nameOrPath, strings.Join(names, "`, `"))
	}
	return fixture.Source{}, fmt.Errorf("unknown fixture `%s` (%s)", nameOrPath, fixtures.Known(cfg.Roots))
}

// Build builds a fixture unless it has a valid entry.
func (w *Workshop) Build(ctx context.Context, s fixture.Source) (built bool, err error) {
	return script.BuildFixture(ctx, script.Env{
		Project: w.o.Config.Dir, Roots: w.o.Config.Roots, Host: w.host, Fixtures: w.cache,
		Stdout: w.o.Stdout, Stderr: w.o.Stderr,
	}, s)
}

// Drop removes all entries of a fixture.
func (w *Workshop) Drop(s fixture.Source) error { return w.cache.Drop(s) }

// Stale is a fixture without a valid entry.
type Stale struct{ Name, Reason string }

// Stale lists the fixtures below the roots that have none.
func (w *Workshop) Stale(ctx context.Context) ([]Stale, error) {
	all, err := fixtures.All(w.o.Config.Roots)
	if err != nil {
		return nil, err
	}
	var out []Stale
	for _, s := range all {
		e, reason, err := w.cache.Find(ctx, s)
		switch {
		case err != nil:
			return nil, err
		case e == nil:
			out = append(out, Stale{s.Name, reason})
		default:
			e.Close()
		}
	}
	return out, nil
}

// Boot boots a profile once, so that the boot cache has it.
func (w *Workshop) Boot(ctx context.Context, profile string) (err error) {
	l := lab.New(w.host)
	defer func() { err = errors.Join(append(l.CloseScope(context.WithoutCancel(ctx)), err)...) }()
	vm, err := l.DeclareVM("prepare", profile, nil)
	if err != nil {
		return err
	}
	return vm.Boot(ctx, nil)
}

// Prepare runs the build commands, fills the boot cache, and builds the fixtures
// that the selected tests name literally. One that fails does not keep it from the
// others. A profile that does not boot is only reported: not all need to on this
// machine, and tests that use it will fail by themselves.
func (w *Workshop) Prepare(ctx context.Context, note func(format string, values ...any)) error {
	candidates, err := Select(w.o.Config, w.o.Select, 0)
	if err != nil {
		return err
	}
	var specs []image.Spec
	for _, name := range w.o.Config.ProfileNames() {
		specs = append(specs, ImageSpec(w.o.Config.Profiles[name]))
	}
	if _, err := preparation.Images(ctx, w.host.Images, specs); err != nil {
		return err // of all profiles that it concerns
	}
	for _, name := range w.o.Config.ProfileNames() {
		note("booting profile `%s`", name)
		if err := w.Boot(ctx, name); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			// The console is for those who need the profile.
			if boot := (*lab.BootError)(nil); errors.As(err, &boot) {
				err = boot.Err
			}
			fmt.Fprintf(w.o.Stderr, "provium: profile `%s` does not boot: %v\n", name, err)
		}
	}
	var failed []error
	done := map[string]bool{}
	for _, c := range candidates.Files {
		for _, name := range c.FixtureRefs {
			if done[name] {
				continue
			}
			done[name] = true
			s, err := w.o.Source(name)
			if err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", c.Path, err))
				continue
			}
			built, err := w.Build(ctx, s)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err != nil:
				failed = append(failed, err)
			case built:
				note("built fixture `%s`", s.Name)
			default:
				note("fixture `%s` is already built", s.Name)
			}
		}
	}
	return errors.Join(failed...)
}
