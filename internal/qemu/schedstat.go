package qemu

import (
	"strings"
	"time"

	"provium/internal/hostload"
)

// Hindered returns how long, in all that was measured, the guest has waited for a CPU of the host: between two calls
// the thread of QEMU counts that has waited the longest, such as the one of the vCPU that works. It returns 0 where
// the host does not say.
func (m *Machine) Hindered() time.Duration {
	return m.waited().Longest
}

// HinderedInTurn is Hindered for what several threads of QEMU do one after the other, such as an answer of the guest:
// the waits of all of them count.
func (m *Machine) HinderedInTurn() time.Duration { return m.waited().All }

func (m *Machine) waited() hostload.Waited {
	return m.waits.Measure(hostload.Root(), strings.TrimPrefix(m.proc.Dir(), "/"))
}
