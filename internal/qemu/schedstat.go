package qemu

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// WaitedForCPU returns how long, in all, the threads of QEMU that run now have waited for a
// CPU of the host. It returns 0 where the host does not say.
func (m *Machine) WaitedForCPU() time.Duration {
	all, _ := waitedForCPU(m.proc.Dir())
	return all
}

// Hindered returns how long that thread of QEMU has waited for a CPU of the host that has waited the longest, such
// as the one of the vCPU that boots. It returns 0 where the host does not say.
func (m *Machine) Hindered() time.Duration {
	_, most := waitedForCPU(m.proc.Dir())
	return most
}

// waitedForCPU returns how long the threads of a process have waited, in all and at most, by its directory in /proc.
func waitedForCPU(dir string) (all, most time.Duration) {
	tasks, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return 0, 0
	}
	for _, t := range tasks {
		text, err := os.ReadFile(filepath.Join(dir, "task", t.Name(), "schedstat"))
		if err != nil {
			continue // it has ended
		}
		// Nanoseconds on a CPU, nanoseconds in a queue for one, turns.
		if f := bytes.Fields(text); len(f) == 3 {
			if ns, err := strconv.ParseInt(string(f[1]), 10, 64); err == nil {
				all += time.Duration(ns)
				most = max(most, time.Duration(ns))
			}
		}
	}
	return all, most
}
