package scene

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"provium/internal/guest/handle"
)

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
