package script

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"provium/internal/fixture"
	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/diskapi"
	"provium/internal/script/failure"
	"provium/internal/script/fixtures"
	"provium/internal/script/journal"
	"provium/internal/script/rewind"
	"provium/internal/script/scene"
	"provium/internal/script/value"
	"provium/internal/stream"
)

// This file is the session as the methods of the API see it: it implements api.Session.

// Op implements binding.Runner.
func (s *session) Op(a value.Args, on handle.VM, do func(ctx context.Context) error) error {
	vm, _ := on.(*lab.VM)
	e := s.current
	if e == nil {
		return binding.ErrIdle
	}
	if vm != nil && a.Func != "vm:shutdown" && a.Func != "vm:close" {
		if err := s.Ended(a, "vm", vm.Name(), vm); err != nil {
			return err
		}
	}
	record := failure.Operation{Text: describe(a.Func, a.Values...), Where: a.Call.CallerFile().String()}
	if vm != nil {
		record.VM = vm.Name()
		e.touch(vm)
	}
	s.keepState(a.Call, rewind.Operation{Func: a.Func, Text: record.String(), Where: record.Where})
	traced := e.trace.Begin(record)
	op := s.journal.Begin(journal.Call{Test: e.name, VM: record.VM, Text: record.Text, Where: record.Where}, s.Now())
	call := guest.Call{Text: failure.Operation{Text: a.Func, Where: record.Where}.String(), Limit: e.opTimeout()}
	err := a.Call.Block(func(ctx context.Context) error { return do(guest.WithCall(ctx, call)) })
	traced.End(err != nil)
	e.evidence.output = append(e.evidence.output, scene.CutShort(record, err)...)
	op.Waited(s.Now())
	s.returning = append(s.returning, returning{a.Call, traced, op, err})
	return err
}

// keepState keeps the state of the guests before an operation, if a person may want to go back
// to it. No limit counts meanwhile.
func (s *session) keepState(c *lua.Call, before rewind.Operation) {
	if !s.points.IsOn() {
		return
	}
	defer s.pause()()
	scope := s.scope
	_ = c.Block(func(ctx context.Context) error {
		s.points.Keep(ctx, scope, before)
		return nil
	})
}

// Touch implements binding.Runner.
func (s *session) Touch(vms ...*lab.VM) {
	if s.current == nil {
		return
	}
	for _, vm := range vms {
		s.current.touch(vm)
	}
}

// Warn implements binding.Runner.
func (s *session) Warn(text string) {
	if s.current != nil {
		s.current.warn(text)
	}
}

// Site implements binding.Runner. It is where a test or a fixture opens something, not the
// helper module that does it on its behalf.
func (s *session) Site(c *lua.Call) stream.Site {
	at := c.CallerIn(".test.lua", ".fixture.lua")
	site := stream.Site{File: at.Source, Line: at.Line}
	if s.current != nil {
		site.Test = s.current.name
	}
	return site
}

// Seed implements binding.Runner.
func (w *world) Seed() uint64 { return w.Host.Seed }

// BesideFile implements binding.Runner.
func (s *session) BesideFile(c *lua.Call, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(s.InProject(filepath.Dir(c.CallerFile().Source)), path)
}

// InProject implements binding.Runner.
func (w *world) InProject(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(w.Project, path)
}

// Running implements api.Session.
func (s *session) Running() (diskapi.Execution, error) {
	if s.current == nil {
		return nil, binding.ErrIdle
	}
	return s.current, nil
}

// Build implements api.Session.
func (s *session) Build() *fixtures.Build { return s.build }

// FindFixture implements api.Session.
func (s *session) FindFixture(name string) (fixture.Source, error) {
	if s.store == nil {
		return fixture.Source{}, errors.New("there are no fixtures here")
	}
	return s.store.Find(s.build, name)
}

// RestoreFixture implements api.Session. The entry stays in the cache until the session is
// closed.
func (s *session) RestoreFixture(ctx context.Context, source fixture.Source, kind fixture.Kind,
	restore func(*fixture.Entry) error) error {
	e, err := s.store.Restore(ctx, builder{s.world}, s.build, source, kind, restore)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, e)
	return nil
}

// Claim implements api.Session. It does nothing in the build of a fixture: the budget is
// that of the file that asked for the fixture.
func (s *session) Claim(a value.Args, l *lab.Lab, memory int64, cpus int) error {
	if s.build != nil {
		return nil
	}
	if s.claimed {
		return a.Errorf("claim already taken: a claim is one-shot, the file's one claim holds to its end")
	}
	if err := s.Op(a, nil, func(ctx context.Context) error { return l.Claim(ctx, memory, cpus) }); err != nil {
		return err
	}
	s.claimed = true
	return nil
}

// Barrier implements api.Session.
func (s *session) Barrier(a value.Args, l *lab.Lab, name string, count int, limit time.Duration) error {
	e := s.current
	if e == nil {
		return binding.ErrIdle
	}
	b, err := e.tasks.arrive(barrierKey{l, name}, count)
	if err != nil {
		return a.Errorf("`%s`: %w", name, err)
	}
	if b.isOpen() && b.err == nil {
		return nil
	}
	timedOut := false
	err = s.Op(a, nil, func(ctx context.Context) error {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		select {
		case <-b.open:
			return nil
		case <-timer.C:
			timedOut = true
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if b.isOpen() { // be it while the timer ran out
		return b.err
	}
	arrived := e.tasks.leave(b)
	if timedOut {
		return a.Errorf("`%s`: timed out after %s: %d of %d tasks have arrived", name, value.FormatSeconds(limit),
			arrived, count)
	}
	return err
}
