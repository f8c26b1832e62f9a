package scene

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/parallel"
	"provium/internal/script/failure"
)

// answerLimit is how long a guest may take to show that it answers.
const answerLimit = 500 * time.Millisecond

const (
	maxTasks   = 400 // processes of a guest that are looked at
	maxListed  = 30  // of them, those that are listed
	maxStacks  = 8   // of those, kernel stacks that are shown
	maxFrames  = 16  // lines of a stack
	maxThreads = 4   // of executors that are listed, too
	maxStat    = 4096
)

// Stuck lists what runs in guests and where their kernels are in it: processes, and those of
// the kernel that cannot be interrupted. Of what is running, which has no stack to show, it is what
// the CPUs do. silent reports whether a guest did not answer before
// ctx ended, which the text says too.
func Stuck(ctx context.Context, vms []*lab.VM, source Source) (text string, silent bool) {
	texts, silence := make([]string, len(vms)), make([]bool, len(vms))
	parallel.Each(vms, func(vm *lab.VM) error {
		title := fmt.Sprintf("in vm `%s` when the time was up:", vm.Name())
		i := slices.Index(vms, vm)
		asking, cancel := context.WithTimeout(ctx, answerLimit)
		defer cancel()
		err := vm.Ping(asking)
		unheard := err != nil && asking.Err() != nil
		var tasks []task
		if err == nil {
			tasks, err = look(ctx, vm)
		}
		switch {
		case unheard || err != nil && ctx.Err() != nil:
			texts[i], silence[i] = outside(ctx, title+" the guest does not answer", vm, source), true
		case err == nil && len(tasks) > 0:
			text := join([]string{title, table(tasks), busy(ctx, vm, tasks)})
			texts[i] = source(ctx, vm.Profile(), text)
		}
		return err
	})
	text = strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), "\n")
	return text, slices.Contains(silence, true)
}

// task is a process, or a thread of an executor.
type task struct {
	pid, parent int
	state       string
	name        string // of the program
	command     string // with its arguments
	isKernel    bool
	ofTest      bool // a command of the test, or the agent's executor
	isThread    bool // of an executor
	at          string
	stack       []string
}

// isStuck reports whether it is worth to show where the kernel is in it.
func (t *task) isStuck() bool {
	switch {
	case strings.HasPrefix(t.state, "D"):
		return true
	case t.name != agentName:
		return t.ofTest
	}
	// An executor waits for the agent, by a message or in shared memory.
	return t.isExecutor() && !strings.HasPrefix(t.at, "unix_stream_") &&
		!strings.HasPrefix(t.at, "futex_") && !strings.Contains(t.at, "skb_wait")
}

// parseStat reads /proc/PID/stat.
func parseStat(text string) (t task, ok bool) {
	text = text[:min(len(text), maxStat)]
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return t, false
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) < 7 {
		return t, false
	}
	const kernelThread = 0x00200000 // PF_KTHREAD
	pid, err1 := strconv.Atoi(strings.TrimSpace(text[:open]))
	parent, err2 := strconv.Atoi(fields[1])
	flags, err3 := strconv.ParseUint(fields[6], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return t, false
	}
	return task{pid: pid, parent: parent, state: fields[0], name: text[open+1 : end],
		isKernel: flags&kernelThread != 0}, true
}

// agentName is the name of the agent's processes and of its executors.
const agentName = "provium-agent"

// look asks a guest for what runs in it.
func look(ctx context.Context, vm *lab.VM) ([]task, error) {
	read := func(paths []string) ([]string, error) {
		ops := make([]guest.Op, len(paths))
		for i, p := range paths {
			ops[i] = guest.ReadFileOp{Path: p}
		}
		results, err := vm.Batch(ctx, ops)
		if err != nil {
			return nil, err
		}
		texts := make([]string, len(results))
		for i, r := range results {
			texts[i] = string(r.Data) // empty for a process that is gone
		}
		return texts, nil
	}
	pids, err := numbersIn(ctx, vm, "/proc")
	if err != nil {
		return nil, err
	}
	stats, err := read(beside(pids, "stat", "cmdline"))
	if err != nil {
		return nil, err
	}
	var all []task
	for i := range pids {
		if t, ok := parseStat(stats[2*i]); ok {
			t.command = strings.TrimSpace(strings.ReplaceAll(stats[2*i+1], "\x00", " "))
			all = append(all, t)
		}
	}
	if all, err = withThreads(ctx, vm, choose(all)); err != nil {
		return nil, err
	}
	pids = pids[:0]
	for _, t := range all {
		pids = append(pids, strconv.Itoa(t.pid))
	}
	where, err := read(beside(pids, "wchan", "stack", "stat", "syscall"))
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].locate(where[4*i : 4*i+4])
	}
	return all, nil
}

// locate adds what the kernel reports about a task: wchan, stack, stat and syscall.
func (t *task) locate(files []string) {
	t.at = strings.Trim(files[0], "0\n ")
	t.stack = strings.Split(strings.TrimSpace(files[1]), "\n")
	if !t.isThread {
		return
	}
	if now, ok := parseStat(files[2]); ok {
		t.state = now.state
	}
	number, _, _ := strings.Cut(strings.TrimSpace(files[3]), " ")
	if _, err := strconv.Atoi(number); err == nil {
		t.command = "syscall_async(" + number + ")"
	}
}

// withThreads adds the threads of executors, on which asynchronous system calls are made.
func withThreads(ctx context.Context, vm *lab.VM, all []task) ([]task, error) {
	var executors []task
	var lists []guest.Op
	for _, t := range all {
		if t.isExecutor() {
			executors = append(executors, t)
			lists = append(lists, guest.ListDirOp{Path: fmt.Sprintf("/proc/%d/task", t.pid)})
		}
	}
	if len(executors) == 0 {
		return all, nil
	}
	results, err := vm.Batch(ctx, lists)
	if err != nil {
		return nil, err
	}
	var threads []task
	for i, r := range results {
		for _, e := range r.Entries {
			tid, err := strconv.Atoi(e.Name)
			if err == nil && tid != executors[i].pid && len(threads) < maxThreads {
				threads = append(threads, task{pid: tid, parent: executors[i].pid, state: "?", name: "syscall_async",
					ofTest: true, isThread: true})
			}
		}
	}
	at := slices.IndexFunc(all, func(t task) bool { return t.name == agentName }) // behind commands of the test
	return slices.Insert(all, at, threads...), nil
}

// isExecutor reports whether the task is a process of the agent that makes system calls.
func (t *task) isExecutor() bool {
	return t.name == agentName && strings.HasPrefix(t.command, "@provium-executor")
}

// numbersIn returns the numbers among the names in a directory.
func numbersIn(ctx context.Context, vm *lab.VM, dir string) (numbers []string, err error) {
	results, err := vm.Batch(ctx, []guest.Op{guest.ListDirOp{Path: dir}})
	if err != nil {
		return nil, err
	}
	if results[0].Err != nil {
		return nil, results[0].Err
	}
	for _, e := range results[0].Entries {
		if _, err := strconv.Atoi(e.Name); err == nil && len(numbers) < maxTasks {
			numbers = append(numbers, e.Name)
		}
	}
	return numbers, nil
}

// beside returns the paths of files of processes.
func beside(pids []string, files ...string) (paths []string) {
	for _, pid := range pids {
		for _, file := range files {
			paths = append(paths, path.Join("/proc", pid, file))
		}
	}
	return paths
}

// choose leaves out threads of the kernel, unless they cannot be interrupted. What the test
// has started comes first.
func choose(all []task) (chosen []task) {
	parents := map[int]*task{}
	for i := range all {
		parents[all[i].pid] = &all[i]
	}
	for i := range all {
		t := &all[i]
		at := t
		for range len(all) { // a loop in what a guest says ends, too
			if at = parents[at.parent]; at == nil {
				break
			}
			if at.name == agentName {
				t.ofTest = true
				break
			}
		}
		if !t.isKernel || strings.HasPrefix(t.state, "D") {
			chosen = append(chosen, *t)
		}
	}
	rank := func(t task) int {
		switch {
		case strings.HasPrefix(t.state, "D"):
			return 0
		case t.ofTest && t.name != agentName:
			return 1
		case t.ofTest:
			return 2
		}
		return 3
	}
	slices.SortStableFunc(chosen, func(a, b task) int { return rank(a) - rank(b) })
	return chosen[:min(len(chosen), maxListed)]
}

// table shows processes, and below them the kernel stacks of those that matter.
func table(tasks []task) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %5s %5s %s %-22s %s", "PID", "PPID", "S", "WAITS IN", "COMMAND")
	stacks := 0
	var below []string
	for _, t := range tasks {
		command := t.command
		if command == "" {
			command = "[" + t.name + "]"
		}
		at := failure.Line(t.at)
		if at == "" {
			at = "-"
		}
		fmt.Fprintf(&b, "\n  %5d %5d %s %-22s %s", t.pid, t.parent, failure.Line(t.state), at,
			failure.Line(command[:min(len(command), 200)]))
		if !t.isStuck() || stacks == maxStacks || len(t.stack) == 0 || t.stack[0] == "" {
			continue
		}
		stacks++
		text := fmt.Sprintf("  kernel stack of %d (%s):", t.pid, failure.Line(t.name))
		for _, frame := range t.stack[:min(len(t.stack), maxFrames)] {
			text += "\n    " + failure.Line(frame)
		}
		below = append(below, text)
	}
	return strings.Join(append([]string{b.String()}, below...), "\n")
}
