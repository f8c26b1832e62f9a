package scene

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"provium/internal/guest/handle"
	"provium/internal/parallel"
	"provium/internal/script/failure"
)

const (
	maxProcesses = 8    // commands that are shown
	lastOutput   = 4096 // bytes of each of their outputs
)

// processes describes commands in the background, with the ends of what they have printed. It
// leaves out those of which a wait has returned the result, and those whose guests do not
// answer before ctx ends.
func processes(ctx context.Context, all []*handle.Process) string {
	var live []*handle.Process
	for _, p := range all {
		if !p.IsWaited() {
			live = append(live, p)
		}
	}
	more := max(0, len(live)-maxProcesses)
	live = live[more:] // the latest
	texts := make([]string, len(live))
	parallel.Each(live, func(p *handle.Process) error { // an error leaves the command out
		stdout, stderr, err := p.Last(ctx, lastOutput)
		if err != nil {
			return err
		}
		status, pid, err := p.Status(ctx, "proc:status")
		if err != nil {
			return err
		}
		if status == "running" {
			status = fmt.Sprintf("running with pid %d", pid)
		}
		parts := []string{fmt.Sprintf("[%s] `%s`: %s", p.VM().Name(), failure.Line(p.Command()), status)}
		for _, out := range []struct {
			name string
			text []byte
		}{{"stdout", stdout}, {"stderr", stderr}} {
			if len(out.text) == lastOutput {
				out.name = "end of " + out.name
			}
			if block := failure.Block(out.name, out.text); block != "" {
				parts = append(parts, "  "+strings.ReplaceAll(block, "\n", "\n  "))
			}
		}
		texts[slices.Index(live, p)] = strings.Join(parts, "\n")
		return nil
	})
	var lines []string
	for _, text := range texts {
		if text != "" {
			lines = append(lines, "  "+strings.ReplaceAll(text, "\n", "\n  "))
		}
	}
	if len(lines) == 0 {
		return ""
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more", more))
	}
	return "commands in the background:\n" + strings.Join(lines, "\n")
}
