// Package hostload measures how busy the machine is, and what processes use of it.
//
// It decides nothing and keeps no history beyond the measurement before. What the host
// does not tell (PSI, control groups) is reported as unknown.
//
// Start reading at Meter.
package hostload

import (
	"bytes"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

// Unknown is the value of a share that the host does not tell.
const Unknown = -1

// Machine is what the machine did since the measurement before.
type Machine struct {
	// CPUs is how many CPUs this process may use, Busy how many of them were in use, by
	// anything. Under a quota of a control group, Busy is what the group used.
	CPUs, Busy float64
	// Waiting is the share of the last 10 s in which something waited for a CPU, from 0
	// to 1, Stalled the same for memory.
	Waiting, Stalled float64
	// MemoryFree is how much memory can be had without swapping, in bytes.
	MemoryFree int64
}

// Process is what a process and its descendants use.
type Process struct {
	// CPUs is how many CPUs they used since the measurement before.
	CPUs float64
	// Memory is what they do not share with others, in bytes.
	Memory int64
	// Hindered is how long, in all that was measured, they have waited for a CPU; see Waited.Longest.
	Hindered time.Duration
}

// Meter measures. It must not be used by several goroutines at a time.
type Meter struct {
	root  fs.FS
	group group
	cpus  []string // names in proc/stat; empty: the sum of all
	limit float64  // CPUs

	at   time.Time
	busy float64               // CPU seconds of the machine at that time
	seen map[int]time.Duration // CPU time of processes then
	wait map[int]*Waits        // of the processes then, with their descendants
}

// tick is the unit of CPU times in proc: USER_HZ is 100 on every architecture.
const tick = 10 * time.Millisecond

// NewMeter returns a Meter of the file system root, with proc and sys below it. cpus is
// how many CPUs this process may use, and names which, as "cpu0"; empty is all.
func NewMeter(root fs.FS, cpus float64, names []string) *Meter {
	m := &Meter{root: root, cpus: names, limit: cpus, seen: map[int]time.Duration{}}
	m.group = findGroup(root)
	return m
}

// Measure measures the machine and the processes of those ids with all their
// descendants. The first measurement has no CPU use, which takes an earlier one.
func (m *Meter) Measure(now time.Time, pids []int) (Machine, map[int]Process) {
	elapsed := now.Sub(m.at).Seconds()
	first := m.at.IsZero()
	busy := m.machineCPU()
	out := Machine{
		CPUs: m.limit, MemoryFree: m.memoryFree(),
		Waiting: m.pressure("cpu"), Stalled: m.pressure("memory"),
	}
	if !first && elapsed > 0 {
		out.Busy = max(0, busy-m.busy) / elapsed
	}
	processes := map[int]Process{}
	seen := map[int]time.Duration{}
	wait := map[int]*Waits{}
	t := &tree{root: m.root, listed: map[int][]fs.DirEntry{}}
	for _, pid := range pids {
		var p Process
		var used time.Duration
		waits := map[string]time.Duration{}
		for _, id := range t.descendants(pid) {
			readWaits(m.root, path.Join("proc", strconv.Itoa(id)), t.tasks(id), waits)
			cpu, ok := t.cpuTime(id)
			if !ok {
				continue
			}
			seen[id] = cpu
			used += cpu - m.seen[id] // all of it, for a new process
			p.Memory += t.memory(id)
		}
		if !first && elapsed > 0 {
			p.CPUs = max(0, used.Seconds()) / elapsed
		}
		if wait[pid] = m.wait[pid]; wait[pid] == nil {
			wait[pid] = &Waits{}
		}
		p.Hindered = wait[pid].add(waits).Longest
		processes[pid] = p
	}
	m.at, m.busy, m.seen, m.wait = now, busy, seen, wait
	return out, processes
}

// machineCPU returns the CPU seconds in which the machine, or the control group, was busy.
func (m *Meter) machineCPU() float64 {
	if m.group.quota {
		return m.group.cpuSeconds(m.root)
	}
	text, err := fs.ReadFile(m.root, "proc/stat")
	if err != nil {
		return 0
	}
	wanted := map[string]bool{}
	for _, name := range m.cpus {
		wanted[name] = true
	}
	if len(wanted) == 0 {
		wanted["cpu"] = true
	}
	var ticks float64
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) < 5 || !wanted[f[0]] {
			continue
		}
		// user, nice, system, then idle and iowait, then irq, softirq and steal. What
		// follows is counted in user and nice.
		for i, value := range f[1:min(len(f), 9)] {
			if n, err := strconv.ParseFloat(value, 64); err == nil && i != 3 && i != 4 {
				ticks += n
			}
		}
	}
	return ticks * tick.Seconds()
}

func (m *Meter) memoryFree() int64 {
	free := int64(Unknown)
	text, _ := fs.ReadFile(m.root, "proc/meminfo")
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte("MemAvailable:")); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(rest)), " kB"), 10, 64)
			if err == nil && kb >= 0 {
				free = kb << 10
			}
		}
	}
	if room := m.group.memoryFree(m.root); room >= 0 && (free < 0 || room < free) {
		free = room
	}
	return free
}

// busyFrom is the share of the time with somebody waiting for a CPU from which on Busy is true.
const busyFrom = 0.6

// Busy reports whether the machine below root has no CPU time to spare: for most of the last
// seconds somebody has waited for a CPU. It is false where the host does not tell.
func Busy(root fs.FS) bool {
	m := Meter{root: root, group: findGroup(root)}
	return m.pressure("cpu") >= busyFrom
}

// pressure reads the average of 10 s of "some".
func (m *Meter) pressure(resource string) float64 {
	text, err := fs.ReadFile(m.root, m.group.pressureFile(resource))
	if err != nil {
		text, err = fs.ReadFile(m.root, "proc/pressure/"+resource)
	}
	if err != nil {
		return Unknown
	}
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) < 2 || f[0] != "some" {
			continue
		}
		value, ok := strings.CutPrefix(f[1], "avg10=")
		percent, err := strconv.ParseFloat(value, 64)
		if ok && err == nil && percent >= 0 && percent <= 100 {
			return percent / 100
		}
	}
	return Unknown
}

// tree reads processes.
type tree struct {
	root     fs.FS
	children map[int][]int // of all processes, where the kernel does not list those of one
	listed   map[int][]fs.DirEntry
}

// tasks returns the threads of a process, which are listed once; none when it has ended.
func (t *tree) tasks(pid int) []fs.DirEntry {
	had, ok := t.listed[pid]
	if !ok {
		had, _ = fs.ReadDir(t.root, path.Join("proc", strconv.Itoa(pid), "task"))
		t.listed[pid] = had
	}
	return had
}

// descendants returns a process and all below it.
func (t *tree) descendants(pid int) []int {
	found := []int{pid}
	for i := 0; i < len(found); i++ {
		found = append(found, t.below(found[i])...)
	}
	return found
}

func (t *tree) below(pid int) []int {
	if t.children != nil {
		return t.children[pid]
	}
	dir := path.Join("proc", strconv.Itoa(pid), "task")
	tasks := t.tasks(pid)
	if len(tasks) == 0 {
		return nil // has ended
	}
	var out []int
	listed := false
	for _, task := range tasks {
		text, err := fs.ReadFile(t.root, path.Join(dir, task.Name(), "children"))
		if err != nil {
			continue // has ended, or a kernel without CONFIG_PROC_CHILDREN
		}
		listed = true
		for _, field := range strings.Fields(string(text)) {
			if id, err := strconv.Atoi(field); err == nil {
				out = append(out, id)
			}
		}
	}
	if !listed {
		t.scan()
		return t.children[pid]
	}
	return out
}

// scan reads the parents of all processes.
func (t *tree) scan() {
	t.children = map[int][]int{}
	all, _ := fs.ReadDir(t.root, "proc")
	for _, entry := range all {
		id, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if f := t.stat(id); len(f) > 1 {
			if parent, err := strconv.Atoi(f[1]); err == nil {
				t.children[parent] = append(t.children[parent], id)
			}
		}
	}
}

// stat returns the fields of a process behind its name: state, parent, …
func (t *tree) stat(pid int) []string {
	text, err := fs.ReadFile(t.root, path.Join("proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	_, behind, _ := strings.Cut(string(text[max(0, bytes.LastIndexByte(text, ')')):]), " ")
	return strings.Fields(behind)
}

// cpuTime returns the CPU time of a process, and of children that it has waited for.
func (t *tree) cpuTime(pid int) (time.Duration, bool) {
	const utime, stime = 11, 12
	f := t.stat(pid)
	if len(f) <= stime {
		return 0, false
	}
	user, errUser := strconv.ParseInt(f[utime], 10, 64)
	system, errSystem := strconv.ParseInt(f[stime], 10, 64)
	return time.Duration(user+system) * tick, errUser == nil && errSystem == nil
}

// TreeTime returns the CPU time of a process, of those descendants that it has waited for, and of its children.
func TreeTime(root fs.FS, pid int) (sum time.Duration) {
	const utime, waitedSystem = 11, 14
	t := &tree{root: root, listed: map[int][]fs.DirEntry{}}
	for _, id := range append(t.below(pid), pid) {
		f := t.stat(id)
		if len(f) <= waitedSystem {
			continue // it has ended
		}
		for _, field := range f[utime : waitedSystem+1] {
			if n, err := strconv.ParseInt(field, 10, 64); err == nil {
				sum += time.Duration(n) * tick
			}
		}
	}
	return sum
}

// memory returns the memory of a process that is not that of a file: what it has changed
// of a file that it maps privately is its own. The kernel keeps these counters, so that
// nothing has to be walked, as smaps_rollup does.
func (t *tree) memory(pid int) int64 {
	text, err := fs.ReadFile(t.root, path.Join("proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	var sum int64
	for line := range bytes.Lines(text) {
		name, value, _ := strings.Cut(string(line), ":")
		switch name {
		case "RssAnon", "RssShmem", "VmSwap":
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err == nil {
				sum += kb << 10
			}
		}
	}
	return sum
}
