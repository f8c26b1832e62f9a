package script

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"provium/internal/event"
	"provium/internal/lab"
	"provium/internal/script/scene"
)

// baseline is the root lab as the chunk left it, for provium.reset_between_tests.
type baseline struct {
	snapshot *lab.LabSnapshot // nil: tests go on from what the one before left
	used     bool             // a test has run since
}

// takeBaseline saves what the chunk has made, where tests are to start from it. It
// reports whether they may run.
func (r *testRun) takeBaseline() bool {
	if !r.wantReset {
		return true
	}
	if r.cfg.Shuffle != nil {
		order := rand.New(rand.NewPCG(*r.cfg.Shuffle, 1))
		order.Shuffle(len(r.tests), func(i, j int) { r.tests[i], r.tests[j] = r.tests[j], r.tests[i] })
	}
	live := map[string]bool{}
	var lines strings.Builder
	for _, vm := range r.root.AllVMs() {
		for _, s := range vm.Streams() {
			if text := s.String(); !live[text] {
				live[text] = true
				lines.WriteString("\n  - open stream " + text)
			}
		}
	}
	if len(live) > 0 {
		r.result.ChunkError = fmt.Sprintf("provium.reset_between_tests: the baseline after the chunk of `%s` "+
			"would auto-snapshot a live stream:%s\nclose it before the end of the chunk, or open it in the tests",
			r.cfg.Path, lines.String())
		return false
	}
	if len(r.tests) < 2 && r.cfg.Retries == 0 { // nobody goes back to it
		return true
	}
	err := r.state.Block(func() (err error) {
		r.base.snapshot, err = r.root.Snapshot(r.ctx, "")
		return err
	})
	if err != nil {
		r.result.ChunkError = fmt.Sprintf("provium.reset_between_tests: the baseline cannot be taken: %v", err)
		return false
	}
	return true
}

// resetLab brings back the baseline for a test. more says whether other tests follow.
func (r *testRun) resetLab(more bool) error {
	b := &r.base
	if b.snapshot == nil {
		return nil
	}
	return r.state.Block(func() error {
		if b.used {
			if err := r.root.Restore(r.ctx, b.snapshot.Path()); err != nil {
				return fmt.Errorf("provium.reset_between_tests: %w", err)
			}
		}
		b.used = true
		if !more {
			return nil
		}
		// While the test runs, the guests of the next one are made.
		if err := r.root.Prepare(r.ctx, b.snapshot.Path()); err != nil && r.ctx.Err() == nil {
			return fmt.Errorf("provium.reset_between_tests: %w", err)
		}
		return nil
	})
}

// dropBaseline ends what takeBaseline began.
func (r *testRun) dropBaseline() {
	if r.base.snapshot == nil {
		return
	}
	if err := r.base.snapshot.Delete(); err != nil {
		r.warn("baseline: %v", err)
	}
}

// failReset reports a test that could not be given its start.
func (r *testRun) failReset(t *testCase, err error) {
	r.result.Failed++
	reason := err.Error()
	if cause := context.Cause(r.ctx); cause != nil {
		reason = cause.Error()
	}
	r.Emit(event.TestFailed{Path: r.cfg.Path, Name: t.name, Meta: t.meta.Values, Log: []string{}, Reason: reason,
		ConsoleExcerpt: scene.Consoles(r.root.AllVMs())})
}
