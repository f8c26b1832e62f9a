package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/event"
	"provium/internal/fixture"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// build is what a fixture file has that a test file has not. A nil one is that of a test
// file.
type build struct {
	source fixture.Source
	parent *build // that needs this one
	lock   *fixture.BuildLock
	trace  fixture.Trace
	cache  *fixture.Cache
	placed []string // snapshots in the cache's directory
	labs   []string // directories that lab:snapshot(dir) has written
}

// chain lists the fixtures being built, from the outermost to b.
func (b *build) chain() []fixture.Source {
	var out []fixture.Source
	for at := b; at != nil; at = at.parent {
		out = append(out, at.source)
	}
	slices.Reverse(out)
	return out
}

// cycle fails when a fixture is being built already.
func (b *build) cycle(s fixture.Source) error {
	chain := b.chain()
	at := slices.IndexFunc(chain, func(x fixture.Source) bool { return x.Path == s.Path })
	if at < 0 {
		return nil
	}
	cycle := &fixture.CycleError{}
	for _, x := range append(chain[at:], s) {
		cycle.Names = append(cycle.Names, x.Name)
	}
	return cycle
}

// holding is the lock that others who need b wait for.
func (b *build) holding() *fixture.BuildLock {
	if b == nil {
		return nil
	}
	return b.lock
}

// place names where a snapshot goes whose path nobody gave: into the cache's directory, so
// that it need not be copied.
func (b *build) place() (string, error) {
	path, err := b.cache.TempPath()
	if err == nil {
		b.placed = append(b.placed, path)
	}
	return path, err
}

// cleanUp removes the snapshots that were not installed.
func (b *build) cleanUp() {
	for _, path := range b.placed {
		_ = os.RemoveAll(path) // what stays is swept later
	}
}

// BuildFixture builds a fixture for no test file, unless it has a valid entry.
func BuildFixture(ctx context.Context, cfg Config, s fixture.Source) (built bool, err error) {
	f := newFile(ctx, cfg)
	e, built, err := f.entry(ctx, s)
	if err != nil {
		return false, err
	}
	e.Close()
	for _, err := range f.root.CloseScope(context.WithoutCancel(ctx)) {
		fmt.Fprintf(f.cfg.Stderr, "provium: %v\n", err)
	}
	return built, nil
}

// buildFixture runs a fixture file and puts what it returns into the cache.
func (f *file) buildFixture(ctx context.Context, s fixture.Source, lock *fixture.BuildLock) (e *fixture.Entry, err error) {
	f.cfg.Emit(event.FixtureBuildStarted{Path: s.Name})
	started := f.cfg.Now()
	defer func() {
		done := event.FixtureBuildDone{Path: s.Name, DurationNS: uint64(max(0, f.cfg.Now().Sub(started)))}
		if e != nil {
			if n, err := f.cfg.Fixtures.Size(e); err == nil {
				done.SnapshotBytes = uint64(n)
			}
		}
		f.cfg.Emit(done)
	}()
	b := &build{source: s, parent: f.build, lock: lock, cache: f.cfg.Fixtures}
	defer b.cleanUp()
	if err := b.trace.File(s.Path); err != nil {
		return nil, fmt.Errorf("fixture `%s`: %w", s.Name, err)
	}
	made, err := f.runFixture(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("fixture `%s`: build failed: %w", s.Name, err)
	}
	e, err = f.cfg.Fixtures.Install(s, &b.trace, *made)
	if err != nil {
		return nil, fmt.Errorf("fixture `%s`: %w", s.Name, err)
	}
	return e, nil
}

// runFixture runs a fixture file in a state and a lab of its own.
func (f *file) runFixture(ctx context.Context, b *build) (made *fixture.Built, err error) {
	cfg := f.cfg
	cfg.AbsPath, cfg.Path = b.source.Path, f.chunkName(b.source.Path)
	cfg.Filter, cfg.Registered = nil, nil
	g := &file{cfg: cfg, ctx: ctx, project: f.project, wait: f.wait, byName: map[string]*testCase{}, gone: map[any]string{}, build: b}
	g.root = f.root.Apart()
	g.scope = g.root
	state, err := lua.New(lua.Config{Stdout: cfg.Stdout, Roots: cfg.Roots, ChunkName: g.chunkName, Opened: b.trace.File})
	if err != nil {
		return nil, err
	}
	g.state = state
	defer state.Close()
	if err := g.openGlobals(); err != nil {
		return nil, fmt.Errorf("lua globals: %w", err)
	}
	if err := g.traceFiles(); err != nil {
		return nil, fmt.Errorf("lua globals: %w", err)
	}
	defer g.closeEntries()
	defer g.close("fixture `"+b.source.Name+"`", g.root)
	chunk, err := state.LoadFile(cfg.AbsPath, cfg.Path)
	if err != nil {
		return nil, err
	}
	e := g.newExecution("", nil)
	err = e.run(chunk)
	var reasons []string
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		reasons = append(reasons, e.explain(err).String())
	}
	reasons = append(reasons, g.takeFindings(g.root.AllVMs())...)
	if len(reasons) > 0 {
		if excerpt := consoles(e.vms()); excerpt != "" {
			reasons = append(reasons, strings.TrimRight(excerpt, "\n"))
		}
		return nil, errors.New(strings.Join(reasons, "\n"))
	}
	if made, err = g.fixtureResult(e.values); err != nil {
		return nil, err
	}
	for _, vm := range g.root.AllVMs() {
		if vm.State() == lab.Created {
			continue
		}
		for _, path := range vm.DiskImages() {
			if err := b.trace.File(g.inProject(path)); err != nil {
				return nil, fmt.Errorf("disk of vm `%s`: %w", vm.Name(), err)
			}
		}
		digest, err := cfg.Host.ProfileDigest(ctx, vm.Profile())
		if err != nil {
			return nil, err
		}
		b.trace.Profile(vm.Profile(), digest)
	}
	return made, nil
}

// fixtureResult reads what a fixture returns, and gets it to where it can be installed.
func (f *file) fixtureResult(values []lua.Value) (*fixture.Built, error) {
	const want = "it must end in `return vm:snapshot()` or `return provium:snapshot()`"
	if len(values) == 0 || values[0] == nil {
		return nil, errors.New("it returned nothing: " + want)
	}
	made, err := f.snapshotOf(values[0])
	if err != nil {
		return nil, err
	}
	if made == nil {
		return nil, fmt.Errorf("it returned a %s: %s", lua.TypeName(values[0]), want)
	}
	if slices.Contains(f.build.placed, made.Path) {
		return made, nil
	}
	// The author wants it to stay where it is.
	path, err := f.build.place()
	if err != nil {
		return nil, err
	}
	duplicate := fixture.Copy
	if made.Kind == fixture.Lab {
		duplicate = fixture.CopyLab
	}
	if err := f.state.Block(func() error { return duplicate(path, made.Path) }); err != nil {
		return nil, err
	}
	made.Path = path
	return made, nil
}

// snapshotOf is the snapshot that a value stands for; nil of another value.
func (f *file) snapshotOf(v lua.Value) (*fixture.Built, error) {
	switch v := v.(type) {
	case string: // what lab:snapshot(dir) returns
		if !slices.Contains(f.build.labs, v) {
			return nil, fmt.Errorf("it returned the string %s, where no lab:snapshot(dir) of it went", value.Quote(value.Clip(v, 80)))
		}
		return &fixture.Built{Kind: fixture.Lab, Path: v}, nil
	case *lua.Userdata:
		switch s := v.Object().(type) {
		case *lab.Snapshot:
			return &fixture.Built{Kind: fixture.VM, Label: s.VM(), Profile: s.Profile(), Path: s.Path(), Over: s.Over()}, nil
		case *lab.LabSnapshot:
			return &fixture.Built{Kind: fixture.Lab, Path: s.Path()}, nil
		}
	}
	return nil, nil
}

// traceSource wraps what reads files of the host, so that note hears of it first. Errors
// and results stay those of the library.
const traceSource = `local note = ...
local open, lines, input, dofile_, loadfile_ = io.open, io.lines, io.input, dofile, loadfile
function io.open(path, mode, ...) note(path, mode) return open(path, mode, ...) end
function io.lines(path, ...) note(path) return lines(path, ...) end
function io.input(path, ...) note(path) return input(path, ...) end
function dofile(path, ...) note(path) return dofile_(path, ...) end
function loadfile(path, ...) note(path) return loadfile_(path, ...) end
`

// inProject makes a path absolute that is relative to the working directory.
func (f *file) inProject(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(f.project, path)
}

// traceFiles has the build note the files that Lua reads by itself.
func (f *file) traceFiles() error {
	note := f.state.NewFunction("note", func(c *lua.Call) ([]lua.Value, error) {
		path, ok := c.Arg(1).(string)
		if !ok || path == "" || strings.ContainsRune(path, 0) {
			return nil, nil // standard input, an open file, or an error of the library
		}
		path = f.inProject(path)
		if mode, ok := c.Arg(2).(string); ok && !strings.HasPrefix(mode, "r") {
			f.build.trace.Made(path)
			return nil, nil
		}
		info, err := os.Stat(path)
		if err == nil && !info.Mode().IsRegular() {
			return nil, nil // /dev/urandom, a FIFO, a directory: nothing to compare
		}
		// A file that cannot be read is the library's to complain about.
		if err := f.build.trace.File(path); err != nil && !errors.Is(err, os.ErrPermission) {
			return nil, err
		}
		return nil, nil
	})
	chunk, err := f.state.LoadString(traceSource, "=trace")
	if err == nil {
		_, err = f.state.Call(f.ctx, chunk, note)
	}
	return err
}
