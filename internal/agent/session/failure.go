package session

import (
	"context"
	"errors"
	"syscall"

	"provium/internal/wire"
)

// Failure returns the result of an operation that failed with err.
func Failure(err error) wire.Result {
	var known *wire.Error
	var errno syscall.Errno
	switch {
	case errors.As(err, &known):
		return wire.Result{Err: known}
	case errors.As(err, &errno):
		return wire.Result{Err: wire.ErrnoError(uint32(errno))}
	case errors.Is(err, context.Canceled):
		return wire.Result{Err: wire.ErrnoError(uint32(syscall.ECANCELED))}
	}
	return wire.Result{Err: &wire.Error{Text: err.Error()}}
}
