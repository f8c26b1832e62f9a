package script

import (
	"context"
	"io"
	"sync"
	"time"

	"provium/internal/event"
	"provium/internal/fixture"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/fixtures"
	"provium/internal/script/journal"
	"provium/internal/script/salvage"
	"provium/internal/script/verdict"
)

// Env is what test files and builds of fixtures run in.
type Env struct {
	// Project is the directory that paths in events and errors start at. It is the working
	// directory of the process.
	Project string
	// Roots are the absolute directories that require searches.
	Roots []string
	// Host is what the labs are made of.
	Host *lab.Host
	// Fixtures are what vm_fixture and lab_fixture restore from, and build into. They fail
	// when it is nil.
	Fixtures *fixture.Cache
	// Waits is called when the file begins to wait for something that counts against no
	// time limit, and what it returns when the wait has ended. It may be nil.
	Waits func() (done func())
	// Stdout takes what print writes, Stderr warnings. Nil drops them.
	Stdout, Stderr io.Writer
	// Capture says that what tests print is only emitted. What a person has typed prints to
	// Stdout in any case.
	Capture bool
	// Emit takes events. Nil drops them.
	Emit func(event.Event)
	// Details says that events of what happens within tests are wanted, too.
	Details bool
	// Progress says that events of what takes long within tests are wanted.
	Progress bool
	// Salvage is called with what a failed test, or the chunk, leaves behind; nil keeps nothing.
	Salvage func(ctx context.Context, r salvage.Remains)
	// Reports is what holds for the reports of kernels; nil knows nothing.
	Reports *verdict.Project
	Stuck   func() // as lua.Config has it
	// Now is the clock that durations are measured on. Nil is time.Now.
	Now func() time.Time
}

// Config says which test file to run, and how.
type Config struct {
	Env
	// Path is the file as shown in events and errors: relative to the project.
	Path string
	// AbsPath is where the file is.
	AbsPath string
	// Filter decides about each test that todo and meta.skip leave in. Nil takes all.
	Filter func(Registered) (skip bool, reason string)
	// Registered is called with the names of the tests, in order, before the first one
	// runs. It may be nil.
	Registered func(names []string)
	// Collect, unless it is nil, is called with the tests that the chunk has registered, and
	// no test runs.
	Collect func([]Registered)
	// Pauses leads to a person, for t:pause and PauseOnFailure; nil where there is none.
	Pauses Pauses
	// PauseOnFailure has the person look at each test that has failed.
	PauseOnFailure bool
	// Rewind keeps the states of the guests before the operations of each test, for t:pause.
	Rewind bool
	// RewindLimit is how much of them is kept, in bytes on disk; 0: 1 GiB.
	RewindLimit int64
	// Retries is how often a test that has failed runs once more, until it passes.
	Retries int
	// Shuffle is the seed of the order of tests in files with reset_between_tests. Nil
	// leaves the order as it is.
	Shuffle *uint64
}

// Registered is a test as its file has registered it.
type Registered struct {
	Name string
	// Group is the name that test.each was given, "" for other tests.
	Group string
	Meta  Meta
	// Lines are where it stands in the file: its call, the calls that led there, its function.
	Lines []Lines
}

// Lines are a part of a file, from 1.
type Lines struct{ First, Last int }

// Result is how a test file ended.
type Result struct {
	Passed, Failed, Skipped int
	// ChunkError is why the chunk failed, empty when it did not. No test ran then.
	ChunkError string
	// Poisoned reports whether Provium itself failed in the chunk or in a test.
	Poisoned bool
}

// world is what the session of a test file shares with those of the fixtures that are built
// for it.
type world struct {
	Env
	fileLab *lab.Lab // of file scope
	clock   *waitClock
	store   *fixtures.Store // nil without a cache
	journal *journal.Journal

	mu    sync.Mutex
	crash *lua.PanicError // the first failure of Provium itself
	cut   []string        // where builds of fixtures were that were stopped
}

// newWorld completes env. path is the test file that warnings name.
func newWorld(env Env, path string) *world {
	if env.Stdout == nil {
		env.Stdout = io.Discard
	}
	if env.Stderr == nil {
		env.Stderr = io.Discard
	}
	if env.Emit == nil {
		env.Emit = func(event.Event) {}
	}
	if env.Now == nil {
		env.Now = time.Now
	}
	w := &world{Env: env, fileLab: lab.New(env.Host), clock: newWaitClock(env.Now),
		journal: &journal.Journal{Emit: env.Emit, Path: env.Host.File, On: env.Details || env.Progress,
			Brief: !env.Details}}
	env.Host.Waits = w.pause
	if env.Fixtures != nil {
		w.store = &fixtures.Store{
			Cache: env.Fixtures, Roots: env.Roots, File: env.Host.File, Emit: env.Emit, Now: env.Now,
			Warn:  func(text string) { warnTo(env.Stderr, path, text) },
			Trust: func(e *fixture.Entry) { env.Host.Trust(e.Verified...) },
			Wait:  w.pause,
		}
	}
	return w
}

// pause begins a wait that counts against no time limit. The caller must call done when it
// has ended.
func (w *world) pause() (done func()) {
	resume, waited := w.clock.pause(), func() {}
	if w.Waits != nil {
		waited = w.Waits()
	}
	return func() {
		resume()
		waited()
	}
}

// crashed records that Provium itself has failed.
func (w *world) crashed(crash *lua.PanicError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.crash == nil {
		w.crash = crash
	}
}

// firstCrash returns the first failure of Provium itself, nil when there was none.
func (w *world) firstCrash() *lua.PanicError {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.crash
}

// cutOff records where the build of a fixture was that was stopped with a test.
func (w *world) cutOff(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = append(w.cut, text)
}

// takeCutOff returns and removes what cutOff has recorded.
func (w *world) takeCutOff() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all, w.cut = w.cut, nil
	return all
}
