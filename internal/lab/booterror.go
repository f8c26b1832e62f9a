package lab

import (
	"fmt"
	"time"
)

// BootError is returned for a boot in which no agent answered. The guest was ended.
type BootError struct {
	VM      string
	Err     error
	Console string // the last 8 KiB of the guest's console
}

func (e *BootError) Error() string {
	s := fmt.Sprintf("vm `%s` boot: %v", e.VM, e.Err)
	if e.Console == "" {
		return s + " (the guest's console is empty)"
	}
	return s + "; the guest's console ends with:\n" + e.Console
}

func (e *BootError) Unwrap() error { return e.Err }

const (
	bootConsoleTail = 8 << 10 // bytes of console in a BootError

	agentTimeoutKVM = 30 * time.Second
	agentTimeoutTCG = 120 * time.Second
)
