package qemu

import (
	"os"
	"strings"
	"time"
)

// Hindered returns how long, in all that was measured, the guest has waited for a CPU of the host: between two calls
// the thread of QEMU counts that has waited the longest, such as the one of the vCPU that works. It returns 0 where
// the host does not say.
func (m *Machine) Hindered() time.Duration {
	return m.waits.Measure(os.DirFS("/"), strings.TrimPrefix(m.proc.Dir(), "/"))
}
