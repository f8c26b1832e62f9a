package scene

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/script/failure"
)

// SoFar returns blocks with what a command had printed that was stopped, of which err is the error.
func SoFar(op failure.Operation, err error) (blocks []string) {
	var cut *guest.CutShortError
	if !errors.As(err, &cut) {
		return nil
	}
	of := op.String()
	if cut.Item > 0 {
		of = fmt.Sprintf("operation %d of %s", cut.Item, of)
	}
	for _, out := range []struct {
		name string
		text []byte
	}{{"stdout", cut.Stdout}, {"stderr", cut.Stderr}} {
		if block := failure.Block(out.name+" so far of "+of, out.text); block != "" {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

// Background describes what a test has started and not waited for: commands, with the ends of
// what they have printed, and system calls. It passes over other things.
func Background[T any](ctx context.Context, all []T) string {
	var commands []*handle.Process
	var calls []*handle.AsyncSyscall
	for _, one := range all {
		switch one := any(one).(type) {
		case *handle.Process:
			commands = append(commands, one)
		case *handle.AsyncSyscall:
			calls = append(calls, one)
		}
	}
	texts := []string{processes(ctx, commands), systemCalls(calls)}
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), "\n")
}

// systemCalls describes those that nobody has awaited.
func systemCalls(all []*handle.AsyncSyscall) string {
	var lines []string
	for _, c := range all {
		if c.Done() {
			continue
		}
		line := fmt.Sprintf("[%s] syscall_async(%d)", c.VM().Name(), c.Number())
		if w := c.Worker(); w != nil {
			line += " of " + w.String()
		}
		lines = append(lines, line+": not awaited")
	}
	more := max(0, len(lines)-maxProcesses)
	lines = lines[more:] // the latest
	if more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return list("system calls in the background:", lines)
}
