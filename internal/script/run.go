package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"provium/internal/event"
	"provium/internal/fixture"
	"provium/internal/lab"
	"provium/internal/lua"
)

// closeLimit bounds how long the end of a scope may take, and aliveLimit how long a VM may
// take to give its sign of life after a test was stopped.
const (
	closeLimit = 60 * time.Second
	aliveLimit = 10 * time.Second
)

// Config says which file to run, and on what.
type Config struct {
	// Path is the file as shown in events and errors: relative to the project, which is the
	// working directory of the process.
	Path string
	// AbsPath is where the file is.
	AbsPath string
	// Roots are the absolute directories that require searches.
	Roots []string
	// Host is what the file's labs are made of. Run sets its OnFinding and Pool and uses
	// what stood there before.
	Host *lab.Host
	// Fixtures are what vm_fixture and lab_fixture restore from, and build into; nil has
	// them fail.
	Fixtures *fixture.Cache
	// Waits is told that the file waits for something that counts against no time limit, and
	// by calling what it returns, that it goes on. Nil is not interested.
	Waits func() (goOn func())
	// Filter decides about each test that todo and meta.skip leave in. Nil takes all.
	Filter func(Meta) (skip bool, reason string)
	// Stdout takes what print writes, Stderr warnings; nil drops them.
	Stdout, Stderr io.Writer
	// Emit takes events; nil drops them.
	Emit func(event.Event)
	// Registered is told the names of the tests, in order, before the first one runs. Nil
	// does not want to know.
	Registered func(names []string)
	// Shuffle is the seed of the order of tests in files with reset_between_tests; nil
	// leaves it as it is.
	Shuffle *uint64
	// Now is the clock durations are measured on; nil is time.Now.
	Now func() time.Time
}

// Result is how a file ended.
type Result struct {
	Passed, Failed, Skipped int
	// ChunkError is why the chunk failed, empty when it did not. No test ran then.
	ChunkError string
	// Poisoned tells that Provium itself failed inside a test.
	Poisoned bool
}

// file is one test file while it runs.
type file struct {
	cfg     Config
	ctx     context.Context
	project string // directory that Path starts at
	wait    *waitClock
	state   *lua.State
	root    *lab.Lab // of file scope
	scope   *lab.Lab // of the running test, else root
	types   types
	provium *lua.Userdata
	packing map[string]*lua.Function // lab.pack and lab.unpack
	equal   *lua.Function            // the operator ==
	tests   []*testCase
	byName  map[string]*testCase
	todo    *string
	claimed bool
	opened  map[*lab.Lab]*resources // of scopes
	gone    map[any]string          // VMs and labs whose scope has ended, with its name
	result  Result
	reset   reset
	build   *build           // of the fixture that this is, nil for a test file
	entries []*fixture.Entry // in use

	mu      sync.Mutex
	current *execution
	setting setting // provium.timeout
}

type testCase struct {
	name string
	fn   *lua.Function
	meta Meta
	raw  lua.Value // the author's table
}

// Run runs one test file: its chunk, then its tests. It returns when everything the file
// owned is closed. When ctx ends, the running test fails with its cause and the rest is
// skipped.
func Run(ctx context.Context, cfg Config) Result {
	f := newFile(ctx, cfg)
	cfg = f.cfg
	state, err := lua.New(lua.Config{Stdout: cfg.Stdout, Roots: cfg.Roots, ChunkName: f.chunkName})
	if err != nil {
		return Result{ChunkError: err.Error(), Poisoned: true}
	}
	f.state = state
	defer state.Close()
	if err := f.openGlobals(); err != nil {
		return Result{ChunkError: "lua globals: " + err.Error(), Poisoned: true}
	}
	defer f.closeEntries()
	defer f.close("file scope", f.root)
	if !f.runChunk() || !f.takeBaseline() {
		return f.result
	}
	defer f.dropBaseline()
	if cfg.Registered != nil {
		names := make([]string, len(f.tests))
		for i, t := range f.tests {
			names[i] = t.name
		}
		cfg.Registered(names)
	}
	for i, t := range f.tests {
		f.runTest(t, i+1 < len(f.tests))
	}
	return f.result
}

// newFile prepares a file, without a state.
func newFile(ctx context.Context, cfg Config) *file {
	if cfg.Stdout == nil {
		cfg.Stdout = io.Discard
	}
	if cfg.Stderr == nil {
		cfg.Stderr = io.Discard
	}
	if cfg.Emit == nil {
		cfg.Emit = func(event.Event) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &file{cfg: cfg, ctx: ctx, wait: newWaitClock(cfg.Now), byName: map[string]*testCase{}, gone: map[any]string{}}
	f.project = strings.TrimSuffix(cfg.AbsPath, string(filepath.Separator)+cfg.Path)
	if f.project == cfg.AbsPath {
		f.project = filepath.Dir(cfg.AbsPath)
	}
	f.watchFindings()
	if cfg.Host.Pool != nil {
		cfg.Host.Pool = &waitingPool{cfg.Host.Pool, f.wait}
	}
	f.root = lab.New(cfg.Host)
	f.scope = f.root
	return f
}

// watchFindings hears of guest failures as soon as they are seen.
func (f *file) watchFindings() {
	before := f.cfg.Host.OnFinding
	f.cfg.Host.OnFinding = func(vm *lab.VM, finding lab.Finding) {
		if before != nil {
			before(vm, finding)
		}
		f.mu.Lock()
		e := f.current
		f.mu.Unlock()
		if finding.Panic && e != nil && !vm.Expendable() {
			e.guestPanicked(vm, finding.Title)
		}
	}
}

// chunkName is how a file appears in errors: relative to the project when it is inside.
func (f *file) chunkName(path string) string {
	if rel, err := filepath.Rel(f.project, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// hostPath resolves a path of the host that a Lua file names: a relative one starts at the
// directory of that file.
func (f *file) hostPath(c *lua.Call, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	from := filepath.Dir(c.CallerFile().Source)
	if !filepath.IsAbs(from) {
		from = filepath.Join(f.project, from)
	}
	return filepath.Join(from, path)
}

func (f *file) setCurrent(e *execution) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = e
}

// inTest tells whether a test body is running, as opposed to the chunk.
func (f *file) inTest() bool { return f.current != nil && f.current.meta != nil }

// runChunk runs the file's top level and tells whether its tests may run.
func (f *file) runChunk() bool {
	chunk, err := f.state.LoadFile(f.cfg.AbsPath, f.cfg.Path)
	if err != nil {
		f.result.ChunkError = err.Error()
		return false
	}
	e := f.newExecution("", nil)
	err = e.run(chunk)
	var reasons []string
	if err != nil {
		reasons = append(reasons, e.explain(err).String())
		var crash *lua.PanicError
		if errors.As(err, &crash) {
			f.result.Poisoned = true
			reasons = append(reasons, crash.Stack)
		}
	}
	reasons = append(reasons, f.takeFindings(f.root.AllVMs())...)
	if len(reasons) > 0 {
		if excerpt := consoles(e.vms()); excerpt != "" {
			reasons = append(reasons, strings.TrimRight(excerpt, "\n"))
		}
	}
	f.result.ChunkError = strings.Join(reasons, "\n")
	return len(reasons) == 0
}

// skipReason tells why a test does not run, if so.
func (f *file) skipReason(t *testCase) (reason string, skip bool) {
	switch {
	case f.todo != nil:
		return *f.todo, true
	case f.ctx.Err() != nil:
		return "not run: " + context.Cause(f.ctx).Error(), true
	case t.meta.Skip && t.meta.SkipReason != "":
		return "skipped: " + t.meta.SkipReason, true
	case t.meta.Skip:
		return "skipped (meta.skip)", true
	case f.cfg.Filter != nil:
		skip, reason = f.cfg.Filter(t.meta)
		return reason, skip
	}
	return "", false
}

const poisonedReason = "failed-due-to-poisoned-state: Provium itself failed in an earlier test of this file"

// runTest runs one test, or says why not. more tells that others follow.
func (f *file) runTest(t *testCase, more bool) {
	path, meta := f.cfg.Path, t.meta.Values
	f.cfg.Emit(event.TestStarted{Path: path, Name: t.name, Meta: meta})
	if f.result.Poisoned {
		f.result.Failed++
		f.cfg.Emit(event.TestFailed{Path: path, Name: t.name, Meta: meta, Log: []string{}, Reason: poisonedReason})
		return
	}
	if reason, skip := f.skipReason(t); skip {
		f.result.Skipped++
		f.cfg.Emit(event.TestSkipped{Path: path, Name: t.name, Reason: reason, Meta: meta})
		return
	}
	if err := f.resetLab(more); err != nil {
		f.failReset(t, err)
		return
	}
	e := f.newExecution(t.name, &t.meta)
	f.scope = f.root.OpenScope()
	err := e.run(t.fn, f.newTestObject(e, t))
	spent := uint64(max(0, f.cfg.Now().Sub(e.started)))
	reason, failed := f.judge(e, err)
	excerpt := ""
	if failed {
		excerpt = consoles(e.vms())
	}
	f.close("test `"+t.name+"`", f.scope)
	f.scope = f.root
	var stop *stopError
	if errors.As(err, &stop) && stop.cause == nil {
		f.checkAlive()
	}
	log := append([]string{}, e.log...)
	switch {
	case failed:
		f.result.Failed++
		f.cfg.Emit(event.TestFailed{Path: path, Name: t.name, DurationNS: spent, Reason: reason,
			ConsoleExcerpt: excerpt, Meta: meta, Log: log})
	case e.skipped != nil:
		f.result.Skipped++
		f.cfg.Emit(event.TestSkipped{Path: path, Name: t.name, Reason: *e.skipped, Meta: meta})
	default:
		f.result.Passed++
		f.cfg.Emit(event.TestPassed{Path: path, Name: t.name, DurationNS: spent, Meta: meta, Log: log})
	}
}

// judge decides whether a test failed that ended with err, and why.
func (f *file) judge(e *execution, err error) (reason string, failed bool) {
	var reasons []string
	var stop *stopError
	var crash *lua.PanicError
	switch {
	case errors.As(err, &crash):
		f.result.Poisoned = true
		reasons = append(reasons, "internal error: "+e.explain(err).String(), crash.Stack)
	case e.failure != nil:
		reasons = append(reasons, e.failure.String())
		if errors.As(err, &stop) {
			reasons = append(reasons, "later: "+stop.Error())
		}
	case errors.As(err, &stop):
		reasons = append(reasons, e.explain(err).String())
	case err != nil && e.skipped == nil:
		reasons = append(reasons, e.explain(err).String())
	}
	findings := f.takeFindings(append(f.root.AllVMs(), f.scope.AllVMs()...))
	if !e.meta.AllowOops {
		reasons = append(reasons, findings...)
	}
	return strings.Join(reasons, "\n"), len(reasons) > 0
}

// takeFindings describes the guest failures seen since it was last called.
func (f *file) takeFindings(vms []*lab.VM) []string {
	var out []string
	_ = f.state.Block(func() error { // what is on its way from the consoles is waited for
		for _, vm := range vms {
			out = append(out, describeFindings(vm)...)
		}
		return nil
	})
	return out
}

// describeFindings takes those of one VM.
func describeFindings(vm *lab.VM) []string {
	var out []string
	for _, finding := range vm.TakeFindings() {
		text := fmt.Sprintf("guest failure on vm `%s`: %s", vm.Name(), finding.Title)
		if finding.Excerpt != "" {
			text += "\n" + strings.TrimRight(finding.Excerpt, "\n")
		}
		out = append(out, text)
	}
	return out
}

// checkAlive asks each VM of file scope for a sign of life. One that gives none is dead from
// then on, so that the next test does not wait for it.
func (f *file) checkAlive() {
	_ = f.state.Block(func() error {
		var asking sync.WaitGroup
		for _, vm := range f.root.AllVMs() {
			if vm.State() != lab.Booted {
				continue
			}
			asking.Add(1)
			go func() {
				defer asking.Done()
				ctx, cancel := context.WithTimeout(f.ctx, aliveLimit)
				defer cancel()
				if err := vm.Ping(ctx); err != nil && f.ctx.Err() == nil && vm.State() == lab.Booted {
					vm.MarkDead(fmt.Sprintf("no sign of life after a test was stopped: %v", err))
				}
			}()
		}
		asking.Wait()
		return nil
	})
}
