// Package guestos waits for what the operating system of a guest has reached (a file, a port, a unit of its
// service manager, the end of its boot) and reads its journal.
//
// It asks by operations of the agent, and runs the guest's own systemctl and journalctl. It knows no VM, no Lua and
// no life cycle: package lab decides when a boot is done, and its callers have the time limits.
//
// Start with await in await.go, then Ready.
package guestos

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
)

// Guest carries out operations in a guest; a guest.Client and the handle of a VM do.
type Guest interface {
	Run(ctx context.Context, r guest.RunRequest) (*guest.RunResult, error)
	ReadFile(ctx context.Context, path string) ([]byte, error)
	Stat(ctx context.Context, path string, follow bool) (*guest.FileInfo, error)
}

// refused returns the text of an error with which the guest's kernel refused an operation, as it does while the
// guest is on its way. ok is false for the end of a guest, of a link or of a limit.
func refused(err error) (text string, ok bool) {
	var op *guest.OpError
	if !errors.As(err, &op) {
		return "", false
	}
	if name := unix.ErrnoName(unix.Errno(op.Errno)); op.Errno != 0 && name != "" {
		return name, true
	}
	return op.Text, true
}

// isMissing reports whether an operation failed since a file is not there.
func isMissing(err error) bool {
	var op *guest.OpError
	return errors.As(err, &op) && (op.Errno == uint32(unix.ENOENT) || op.Errno == uint32(unix.ENOTDIR))
}
