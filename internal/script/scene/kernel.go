package scene

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"provium/internal/inspect"
	"provium/internal/lab"
	"provium/internal/network"
	"provium/internal/printk"
)

const (
	maxLogLines = 60        // of a kernel's log that are shown, the latest
	maxCPULines = 200       // of the state of a guest's CPUs
	consoleEnd  = 256 << 10 // bytes of a console in which lines of the log are looked for
	warning     = 4         // level from which on a healthy kernel's lines are left out
	// outsideLimit is how long a look at a guest from outside may take.
	outsideLimit = 500 * time.Millisecond
)

// Source returns a text with lines of source behind the frames of a profile's kernel, as far as
// there is time for it before ctx ends.
type Source func(ctx context.Context, profile, text string) string

// World describes the rules of the networks and disks among objects, commands in the background, and what is
// known of the kernels of the guests that the test used.
func World[T any](ctx context.Context, objects map[any]bool, background []T, used []*lab.VM,
	source Source) string {
	var bridges []*network.Bridge
	var vms []*lab.VM
	for o := range objects {
		switch o := o.(type) {
		case *network.Bridge:
			bridges = append(bridges, o)
		case *lab.VM:
			vms = append(vms, o)
		}
	}
	slices.SortFunc(bridges, func(a, b *network.Bridge) int { return cmp.Compare(a.Name(), b.Name()) })
	slices.SortFunc(vms, func(a, b *lab.VM) int { return cmp.Compare(a.Name(), b.Name()) })
	parts := []string{Rules(bridges, vms), Background(ctx, background)}
	for _, vm := range used[max(0, len(used)-maxKernels):] {
		if kept := vm.Inspect().TakeKept(); kept != nil {
			text := cpus(fmt.Sprintf("vm `%s` before it was given up:", vm.Name()), kept)
			parts = append(parts, source(ctx, vm.Profile(), text))
		}
		parts = append(parts, kernelLog(vm))
	}
	return join(parts)
}

// maxKernels is how many guests' logs are looked at.
const maxKernels = 4

// join puts the texts that are not empty on lines of their own.
func join(parts []string) string {
	var all []string
	for _, p := range parts {
		if p != "" {
			all = append(all, p)
		}
	}
	return strings.Join(all, "\n")
}

// kernelLog returns what the log of a guest's kernel has that its console does not show, once.
// Of a guest that is well it is warnings and worse.
func kernelLog(vm *lab.VM) string {
	ctx, cancel := context.WithTimeout(context.Background(), outsideLimit)
	defer cancel()
	records := vm.Inspect().Unshown(ctx)
	if len(records) == 0 {
		return ""
	}
	if !vm.IsAgentless() {
		records = sinceInit(records)
	}
	isWell := !vm.IsAgentless() && !vm.Inspect().IsLost()
	lines := unseen(records, isWell, vm.Console().Tail(consoleEnd))
	if len(lines) == 0 {
		return ""
	}
	title := fmt.Sprintf("kernel log of vm `%s`, as far as its console does not show it:", vm.Name())
	if more := len(lines) - maxLogLines; more > 0 {
		lines = append([]string{fmt.Sprintf("(%d more lines)", more)}, lines[more:]...)
	}
	return list(title, lines)
}

// sinceInit leaves out what a kernel has said of its own start.
func sinceInit(records []printk.Record) []printk.Record {
	for i, r := range slices.Backward(records) {
		if r.Facility == 0 && strings.HasPrefix(r.Text, "Run /") && strings.HasSuffix(r.Text, " as init process") {
			return records[i+1:]
		}
	}
	return records
}

// unseen returns the lines of messages that a console does not show; with severe, only those of
// the kernel itself that are warnings or worse.
func unseen(records []printk.Record, severe bool, console string) (lines []string) {
	for _, r := range records {
		if severe && (r.Level > warning || r.Facility != 0) {
			continue
		}
		for line := range strings.Lines(r.Text) {
			line = strings.TrimRight(line, "\r\n")
			if line != "" && !strings.Contains(console, line) {
				micros := r.Time.Microseconds()
				lines = append(lines, fmt.Sprintf("[%5d.%06d] %s", micros/1e6, micros%1e6, line))
			}
		}
	}
	return lines
}

// outside describes what the CPUs of a guest do that does not answer.
func outside(ctx context.Context, title string, vm *lab.VM, source Source) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outsideLimit)
	defer cancel()
	state, err := vm.Inspect().Look(ctx)
	if err != nil {
		return title
	}
	return source(ctx, vm.Profile(), cpus(title, state))
}

// busy describes the CPUs that run the kernel while something of the test runs: a task that is
// running has no stack that the kernel would show.
func busy(ctx context.Context, vm *lab.VM, tasks []task) string {
	if !slices.ContainsFunc(tasks, func(t task) bool { return t.ofTest && strings.HasPrefix(t.state, "R") }) {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, outsideLimit)
	defer cancel()
	state, err := vm.Inspect().Peek(ctx)
	if err != nil {
		return ""
	}
	if state = state.InKernel(); len(state.CPUs) == 0 {
		return ""
	}
	return cpus(fmt.Sprintf("CPUs of vm `%s` that run the kernel:", vm.Name()), state)
}

// cpus lists what CPUs do.
func cpus(title string, s *inspect.State) string {
	text := s.Text()
	if text == "" {
		return title
	}
	lines := strings.Split(text, "\n")
	return list(title, lines[:min(len(lines), maxCPULines)])
}
