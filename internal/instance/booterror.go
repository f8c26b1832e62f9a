package instance

import (
	"fmt"
	"strings"
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

// Explain adds to the error of a boot what the guest's kernel reported during it, unless
// the error says so already.
func Explain(err error, reports []Finding) error {
	if len(reports) == 0 || strings.Contains(err.Error(), reports[0].Title) {
		return err
	}
	return fmt.Errorf("%w; the guest's kernel reported: %s", err, reports[0].Title)
}
