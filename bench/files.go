//go:build bench

package main

import (
	"context"
	"fmt"
	"time"

	"provium/internal/lua"
)

const emptyFiles = 300

// files measures what a test file costs that boots nothing. The reference is to make a Lua
// state.
func (b *bench) files(ctx context.Context) error {
	files := map[string]string{}
	for i := range emptyFiles {
		files[fmt.Sprintf("%d.test.lua", i)] = "test('t', function(t) t:assert(true) end)"
	}
	p, err := b.project(files)
	if err != nil {
		return err
	}
	var each, state sample
	for range 5 {
		start := time.Now()
		if err := p.run(ctx, nil, "-q"); err != nil {
			return err
		}
		each = append(each, time.Since(start)/emptyFiles)
		start = time.Now()
		s, err := lua.New(lua.Config{})
		if err != nil {
			return err
		}
		s.Close()
		state = append(state, time.Since(start))
	}
	over := each.median() - state.median()
	b.table.judge(fmt.Sprintf("a file of %d that boot nothing, above a Lua state of %v", emptyFiles,
		state.median().Round(10*time.Microsecond)), over.Round(100*time.Microsecond).String(), "<= 15ms",
		over <= 15*time.Millisecond)
	return nil
}
