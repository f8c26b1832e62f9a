package proc

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// IsAlone reports whether this process has no children but those of these ids, and its parent, a keeper, has no other
// than this process: nothing that was started here is left. It is false where the kernel does not list children.
func IsAlone(children []int) bool {
	if all, ok := childrenOf(os.Getppid()); !ok || len(all) != 1 {
		return false
	}
	all, ok := childrenOf(os.Getpid())
	return ok && !slices.ContainsFunc(all, func(pid int) bool { return !slices.Contains(children, pid) })
}

// childrenOf returns the children of all threads of a process.
func childrenOf(pid int) (all []int, ok bool) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, false
	}
	for _, t := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		if err != nil {
			continue // the thread has ended, or a kernel without CONFIG_PROC_CHILDREN
		}
		ok = true
		for field := range strings.FieldsSeq(string(text)) {
			if id, err := strconv.Atoi(field); err == nil {
				all = append(all, id)
			}
		}
	}
	return all, ok
}

// CPUTime returns the CPU time of this process and of those descendants that it has waited for.
func CPUTime() (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if unix.Getrusage(who, &r) == nil {
			sum += time.Duration(r.Utime.Nano() + r.Stime.Nano())
		}
	}
	return sum
}
