// Package apitest has a session for unit tests of the Lua API: it runs Lua code with the
// global `provium` and records what the methods ask of it.
//
// Only tests may import it. It has no time limits, scopes or tasks: those are tested in
// package script.
//
// Start with New, then Check.
package apitest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"provium/internal/fixture"
	"provium/internal/guest/handle"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/api"
	"provium/internal/script/binding"
	"provium/internal/script/diskapi"
	"provium/internal/script/fixtures"
	"provium/internal/script/value"
	"provium/internal/stream"
)

// Session implements api.Session for one test.
type Session struct {
	Dir      string // the project
	State    *lua.State
	Touched  []*lab.VM
	Warnings []string
	Owned    [binding.Kinds][]binding.Resource
	Settings map[string]lua.Value
	Gone     map[any]string // objects whose scope has ended, with its name
	Fixtures []string       // names that were looked for
	Claims   []string
	Barriers []string
	Idle     bool // no test is running

	host *lab.Host
	root *lab.Lab
	t    testing.TB
}

// New returns a session on a host. It is closed when the test ends.
func New(t testing.TB, host *lab.Host) *Session {
	t.Helper()
	s := &Session{Dir: t.TempDir(), Settings: map[string]lua.Value{}, Gone: map[any]string{}, host: host,
		root: lab.New(host), t: t}
	var err error
	if s.State, err = lua.New(lua.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	provium, err := api.Open(s.State, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.State.SetGlobal("provium", provium); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, kind := range s.Owned {
		for _, r := range kind {
			if err := r.Close(ctx); err != nil {
				s.t.Errorf("close of %s: %v", r, err)
			}
		}
	}
	_ = s.State.Block(func() error {
		for _, err := range s.root.CloseScope(ctx) {
			s.t.Error(err)
		}
		return nil
	})
	s.State.Close()
}

// Run runs Lua code and returns its error.
func (s *Session) Run(source string) error {
	chunk, err := s.State.LoadString(source, filepath.Join(s.Dir, "tests/x.lua"))
	if err != nil {
		return err
	}
	_, err = s.State.Call(context.Background(), chunk)
	return err
}

// Check runs each Lua source, after prefix, in a separate session. Its error must contain
// the wanted text; it must have none where that is empty.
func Check(t *testing.T, host func(testing.TB) *lab.Host, prefix string, cases map[string]string) {
	t.Helper()
	for source, want := range cases {
		t.Run(value.Clip(source, 60), func(t *testing.T) {
			err := New(t, host(t)).Run(prefix + " " + source)
			switch {
			case want == "" && err != nil:
				t.Errorf("%s\n%v", source, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%s\n%v\nwant %q", source, err, want)
			}
		})
	}
}

// Op implements binding.Runner.
func (s *Session) Op(a value.Args, _ handle.VM, do func(ctx context.Context) error) error {
	if s.Idle {
		return binding.ErrIdle
	}
	return a.Call.Block(do)
}

// Returned implements binding.Runner.
func (s *Session) Returned(value.Args, any, []lua.Value, error) {}

// Touch implements binding.Runner.
func (s *Session) Touch(vms ...*lab.VM) { s.Touched = append(s.Touched, vms...) }

// Warn implements binding.Runner.
func (s *Session) Warn(text string) { s.Warnings = append(s.Warnings, text) }

// Ended implements binding.Runner.
func (s *Session) Ended(a value.Args, kind, name string, object any) error {
	if scope, gone := s.Gone[object]; gone {
		return a.Errorf("%s `%s` belongs to %s, which has ended", kind, name, scope)
	}
	return nil
}

// Own implements binding.Runner.
func (s *Session) Own(kind binding.Kind, r binding.Resource) {
	s.Owned[kind] = append(s.Owned[kind], r)
}

// Disown implements binding.Runner.
func (s *Session) Disown(kind binding.Kind, r binding.Resource) {
	s.Owned[kind] = slices.DeleteFunc(s.Owned[kind], func(x binding.Resource) bool { return x == r })
}

// Site implements binding.Runner.
func (s *Session) Site(c *lua.Call) stream.Site {
	at := c.CallerFile()
	return stream.Site{File: at.Source, Line: at.Line, Test: "it"}
}

// Root implements binding.Runner.
func (s *Session) Root() *lab.Lab { return s.root }

// Scope implements binding.Runner.
func (s *Session) Scope() *lab.Lab { return s.root }

// Seed implements binding.Runner.
func (s *Session) Seed() uint64 { return s.host.Seed }

// BesideFile implements binding.Runner.
func (s *Session) BesideFile(c *lua.Call, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(c.CallerFile().Source), path)
}

// InProject implements binding.Runner.
func (s *Session) InProject(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(s.Dir, path)
}

// Build implements api.Session: it is that of a test file.
func (s *Session) Build() *fixtures.Build { return nil }

// FindFixture implements api.Session. Each name is a fixture.
func (s *Session) FindFixture(name string) (fixture.Source, error) {
	s.Fixtures = append(s.Fixtures, name)
	return fixture.Source{Name: name}, nil
}

// RestoreFixture implements api.Session: it restores the file or directory in the project
// that is called as the fixture, as one of a VM `box` of profile `host`.
func (s *Session) RestoreFixture(_ context.Context, source fixture.Source, kind fixture.Kind,
	restore func(*fixture.Entry) error) error {
	return restore(&fixture.Entry{Kind: kind, Label: "box", Profile: "host", Path: s.InProject(source.Name)})
}

// Claim implements api.Session.
func (s *Session) Claim(_ value.Args, l *lab.Lab, memory int64, cpus int) error {
	s.Claims = append(s.Claims, fmt.Sprintf("%s %d %d", l.Name(), memory, cpus))
	return nil
}

// Barrier implements api.Session.
func (s *Session) Barrier(_ value.Args, l *lab.Lab, name string, count int, limit time.Duration) error {
	s.Barriers = append(s.Barriers, fmt.Sprintf("%s %s %d %v", l.Name(), name, count, limit))
	return nil
}

// Assign implements api.Session.
func (s *Session) Assign(key, v lua.Value) error {
	name, ok := key.(string)
	if !ok {
		return errors.New("unknown setting")
	}
	s.Settings[name] = v
	return nil
}

// Setting implements api.Session.
func (s *Session) Setting(name string) (v lua.Value, ok bool) {
	v, ok = s.Settings[name]
	return v, ok
}

// Running implements api.Session.
func (s *Session) Running() (diskapi.Execution, error) {
	if s.Idle {
		return nil, binding.ErrIdle
	}
	return execution{}, nil
}

// execution implements diskapi.Execution.
type execution struct{}

// Parallel implements diskapi.Execution. The tasks run one after the other.
func (execution) Parallel(c *lua.Call, _ string, n int, work func(c *lua.Call, i int) error) error {
	for i := range n {
		if err := work(c, i); err != nil {
			return err
		}
	}
	return nil
}

// Try implements diskapi.Execution.
func (execution) Try(c *lua.Call, _, _ string, _ *lab.VM, fn *lua.Function, values ...lua.Value) ([]lua.Value, string,
	error) {
	results, err := c.Call(fn, values...)
	if err != nil {
		return nil, err.Error(), nil
	}
	return results, "", nil
}

// Findings implements diskapi.Execution.
func (execution) Findings(c *lua.Call, vm *lab.VM) (out []string, err error) {
	err = c.Block(func(context.Context) error {
		for _, f := range vm.TakeFindings() {
			out = append(out, f.Title)
		}
		return nil
	})
	return out, err
}

// Fail implements diskapi.Execution.
func (execution) Fail(_ *lua.Call, text string) error { return errors.New(text) }
