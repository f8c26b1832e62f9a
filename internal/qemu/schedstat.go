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
func (m *Machine) WaitedForCPU() time.Duration { return waitedForCPU(m.proc.Dir()) }

// waitedForCPU is WaitedForCPU for a directory in /proc.
func waitedForCPU(dir string) (all time.Duration) {
	tasks, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return 0
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
			}
		}
	}
	return all
}
