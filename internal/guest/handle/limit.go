package handle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"provium/internal/guest"
)

// LimitError is why an operation ended at the limit that its caller gave.
type LimitError struct{ Limit time.Duration }

func (e *LimitError) Error() string { return fmt.Sprintf("timed out after %v", e.Limit) }

// WithLimit returns a context that ends after limit, with a LimitError as its cause. A
// limit of 0 is no limit.
func WithLimit(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, limit, &LimitError{limit})
}

// atLimit returns err with the limit that the caller of an operation has given, of which the
// wait for an agent may have taken a part.
func atLimit(err error, limit time.Duration) error {
	var silent *guest.SilentError
	if errors.As(err, &silent) && silent.Timeout {
		silent.Limit = limit
	}
	return err
}

// Named adds the VM to an error of its guest. One that came at the caller's limit, or
// because the guest was silent, gets the operation's name and path, too.
func Named(vm VM, op, path string, err error) error {
	var limit *LimitError
	var failed *guest.OpError
	var silent *guest.SilentError
	switch {
	case errors.As(err, &limit):
		if path != "" {
			op += " " + path
		}
		return fmt.Errorf("vm `%s`: %s: %w", vm.Name(), op, limit)
	case errors.As(err, &failed):
		failed.VM = vm.Name()
	case errors.As(err, &silent):
		silent.VM, silent.Op = vm.Name(), op
		if path != "" {
			silent.Path = path
		}
	}
	return err
}
