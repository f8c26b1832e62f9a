package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"

	"provium/internal/fixture"
	"provium/internal/kernelreport"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/api"
	"provium/internal/script/failure"
	"provium/internal/script/fixtures"
	"provium/internal/script/luajson"
	"provium/internal/script/rewind"
	"provium/internal/script/scene"
	"provium/internal/terminal"
)

// session is one Lua state with the API in it, and all that its code makes. A test file and
// the build of a fixture have one each. Fields are used with the baton of the state held,
// except for those that mu guards.
type session struct {
	*world
	scopes
	ctx     context.Context
	path    string // the file as shown in errors: relative to the project
	absPath string
	build   *fixtures.Build
	state   *lua.State
	pauses  Pauses          // nil: nobody can look at a test
	bodies  []*lua.Function // of the tests
	talking int             // conversations with a person
	points  rewind.Points

	claimed   bool             // provium:claim was called
	wantReset bool             // provium.reset_between_tests
	entries   []*fixture.Entry // in use
	returning []returning

	mu           sync.Mutex
	current      *execution
	defaultLimit timeLimit // provium.timeout
}

// newSession prepares a session for the file at absPath, which errors call path. It has no
// state yet. build is nil for a test file.
func (w *world) newSession(ctx context.Context, path, absPath string, root *lab.Lab, build *fixtures.Build) *session {
	return &session{world: w, scopes: newScopes(root), ctx: ctx, path: path, absPath: absPath, build: build}
}

// open makes the state. more are the global functions beside those that all sessions have.
// The caller must call close.
func (s *session) open(more map[string]lua.GoFunc) error {
	var opened func(path string) error
	if s.build != nil {
		opened = s.build.Uses
	}
	state, err := lua.New(lua.Config{Stdout: s.stdout(), Roots: s.Roots, ChunkName: s.chunkName, Opened: opened,
		Running: s.running, TempDir: s.Host.TempDir, Stuck: s.Stuck})
	if err != nil {
		return err
	}
	s.state = state
	err = s.openGlobals(more)
	if err == nil && s.build != nil {
		err = s.build.WatchReads(s.ctx, state, s.Project)
	}
	if err != nil {
		state.Close()
		return fmt.Errorf("lua globals: %w", err)
	}
	return nil
}

// stdout returns what takes the output of Lua code.
func (s *session) stdout() io.Writer {
	return &toldOutput{s.Stdout, s}
}

// close closes what is of file scope, then the state.
func (s *session) close(what string) {
	s.closeScope(what, s.root)
	for _, e := range s.entries {
		e.Close()
	}
	s.state.Close()
}

// openGlobals puts the Lua API into the state, and the functions more.
func (s *session) openGlobals(more map[string]lua.GoFunc) error {
	provium, err := api.Open(s.state, s)
	if err != nil {
		return err
	}
	co, err := taskAPI{s}.coFunctions()
	if err != nil {
		return err
	}
	globals := map[string]lua.Value{
		"provium":    provium,
		"json":       luajson.NewLibrary(s.state),
		"wait_until": s.state.NewBlockingFunction("wait_until", taskAPI{s}.luaWaitUntil),
		"parallel":   s.state.NewBlockingFunction("parallel", taskAPI{s}.luaParallel),
		"co":         co,
	}
	for name, fn := range more {
		globals[name] = s.state.NewFunction(name, fn)
	}
	for name, v := range globals {
		if err := s.state.SetGlobal(name, v); err != nil {
			return err
		}
	}
	return nil
}

// runChunk runs the file's top level and returns what it returned. The error says all that
// helps to understand why it failed, a failure of Provium itself among it.
func (s *session) runChunk() ([]lua.Value, error) {
	chunk, err := s.state.LoadFile(s.absPath, s.path)
	if err != nil {
		return nil, err
	}
	if err := s.state.SetGlobal(sourcePath, s.absPath); err != nil {
		return nil, err
	}
	e := newExecution(s, "", nil)
	err = e.run(chunk)
	var reasons []string
	reasons = append(reasons, e.reasons(err)...)
	reasons = failure.WithReports(reasons, e.takeFindings(s.root.AllVMs()))
	if len(reasons) == 0 {
		return e.values, nil
	}
	e.salvage(true)
	if excerpt := scene.Consoles(e.vms()); excerpt != "" {
		excerpt = terminal.WithoutRepeated(excerpt, strings.Join(reasons, "\n"))
		reasons = append(reasons, strings.TrimRight(excerpt, "\n"))
	}
	return nil, &chunkError{text: strings.Join(reasons, "\n"), err: err}
}

// sourcePath is the global variable with the absolute path of the running chunk.
const sourcePath = "_PROVIUM_SOURCE_PATH"

// running sets the global variable while the chunk of a module runs.
func (s *session) running(path string) (done func() error, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	before := s.state.Global(sourcePath)
	return func() error { return s.state.SetGlobal(sourcePath, before) }, s.state.SetGlobal(sourcePath, path)
}

// chunkError is why a chunk failed.
type chunkError struct {
	text string
	err  error // of the run; nil when a guest has failed
}

// Error returns the text.
func (e *chunkError) Error() string { return e.text }

// Unwrap returns the error of the run.
func (e *chunkError) Unwrap() error { return e.err }

// crashIn returns the failure of Provium itself that is behind err, or nil.
func crashIn(err error) *lua.PanicError {
	var crash *lua.PanicError
	errors.As(err, &crash)
	return crash
}

// chunkName returns how a file appears in errors: relative to the project when it is inside.
func (w *world) chunkName(path string) string {
	if rel, err := filepath.Rel(w.Project, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// watchHost stops the running execution when a guest panics or stands still, and keeps waits for the pool
// from counting against its time limit, until stop is called.
func (s *session) watchHost() (stop func()) {
	return s.Host.Observe(lab.Observer{
		PoolWait: s.clock.pause,
		ExpectsPanic: func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.current != nil && s.current.meta != nil && s.current.meta.Allowed.Panic
		},
		Finding: func(vm *lab.VM, finding kernelreport.Finding) {
			s.mu.Lock()
			e := s.current
			s.mu.Unlock()
			if e != nil && e.verdict.Saw(finding) && !vm.Expendable() {
				e.guestFailed(vm, finding)
			}
		},
	})
}

func (s *session) setCurrent(e *execution) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = e
}

// inTest reports whether a test body is running, as opposed to the chunk.
func (s *session) inTest() bool { return s.current != nil && s.current.meta != nil }

// warn writes a warning that names the file.
func (s *session) warn(format string, values ...any) {
	warnTo(s.Stderr, s.path, fmt.Sprintf(format, values...))
}

func warnTo(w io.Writer, path, text string) { fmt.Fprintf(w, "provium: %s: %s\n", path, text) }
