package script

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"provium/internal/event"
	"provium/internal/lab"
	"provium/internal/lua"
)

// reset is provium.reset_between_tests: the root lab as the chunk left it.
type reset struct {
	wanted   bool
	baseline *lab.LabSnapshot
	used     bool // a test has run since
}

// setReset is provium.reset_between_tests = v.
func (f *file) setReset(v lua.Value) error {
	wanted, ok := v.(bool)
	if !ok && v != nil {
		return fmt.Errorf("provium.reset_between_tests: expected boolean, got %s", lua.TypeName(v))
	}
	if f.inTest() {
		return errors.New("provium.reset_between_tests: cannot be set inside a test body (set it at file scope)")
	}
	f.reset.wanted = wanted
	return nil
}

// takeBaseline saves what the chunk has made, where tests are to start from it. It tells
// whether they may run.
func (f *file) takeBaseline() bool {
	if !f.reset.wanted {
		return true
	}
	if f.cfg.Shuffle != nil {
		order := rand.New(rand.NewPCG(*f.cfg.Shuffle, 1))
		order.Shuffle(len(f.tests), func(i, j int) { f.tests[i], f.tests[j] = f.tests[j], f.tests[i] })
	}
	if len(f.tests) < 2 {
		return true
	}
	live := map[string]bool{}
	var lines strings.Builder
	for _, vm := range f.root.AllVMs() {
		for _, s := range vm.Streams() {
			if text := s.String(); !live[text] {
				live[text] = true
				lines.WriteString("\n  - " + text)
			}
		}
	}
	if len(live) > 0 {
		f.result.ChunkError = fmt.Sprintf("provium.reset_between_tests: the baseline after the chunk of `%s` would auto-snapshot a live stream:%s\nclose it before the end of the chunk, or open it in the tests",
			f.cfg.Path, lines.String())
		return false
	}
	err := f.state.Block(func() (err error) {
		f.reset.baseline, err = f.root.Snapshot(f.ctx, "")
		return err
	})
	if err != nil {
		f.result.ChunkError = fmt.Sprintf("provium.reset_between_tests: the baseline cannot be taken: %v", err)
		return false
	}
	return true
}

// resetLab has a test start from the baseline. more tells that other tests follow.
func (f *file) resetLab(more bool) error {
	r := &f.reset
	if r.baseline == nil {
		return nil
	}
	return f.state.Block(func() error {
		if r.used {
			if err := f.root.Restore(f.ctx, r.baseline.Path()); err != nil {
				return fmt.Errorf("provium.reset_between_tests: %w", err)
			}
		}
		r.used = true
		if !more {
			return nil
		}
		// While the test runs, the guests of the next one are made.
		if err := f.root.Prepare(f.ctx, r.baseline.Path()); err != nil && f.ctx.Err() == nil {
			return fmt.Errorf("provium.reset_between_tests: %w", err)
		}
		return nil
	})
}

// dropBaseline ends what takeBaseline began.
func (f *file) dropBaseline() {
	if f.reset.baseline == nil {
		return
	}
	if err := f.reset.baseline.Delete(); err != nil {
		fmt.Fprintf(f.cfg.Stderr, "provium: %s: baseline: %v\n", f.cfg.Path, err)
	}
}

// failReset reports a test that could not be given its start.
func (f *file) failReset(t *testCase, err error) {
	f.result.Failed++
	reason := err.Error()
	if cause := context.Cause(f.ctx); cause != nil {
		reason = cause.Error()
	}
	f.cfg.Emit(event.TestFailed{Path: f.cfg.Path, Name: t.name, Meta: t.meta.Values, Log: []string{}, Reason: reason,
		ConsoleExcerpt: consoles(f.root.AllVMs())})
}
