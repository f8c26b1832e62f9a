package lab

import (
	"context"

	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/stream"
)

// The types of guest operations, for callers that see only this package.
type (
	RunRequest    = guest.RunRequest
	RunResult     = guest.RunResult
	RunStatus     = guest.Status
	FileInfo      = guest.FileInfo
	DirEntry      = guest.DirEntry
	Perm          = guest.Perm
	OpError       = guest.OpError
	BatchOp       = guest.Op
	BatchResult   = guest.Result
	RunOp         = guest.RunOp
	ReadFileOp    = guest.ReadFileOp
	WriteFileOp   = guest.WriteFileOp
	StatOp        = guest.StatOp
	ListDirOp     = guest.ListDirOp
	MkdirOp       = guest.MkdirOp
	UnlinkOp      = guest.UnlinkOp
	RenameOp      = guest.RenameOp
	Syscall       = guest.Syscall
	SyscallResult = guest.SyscallResult
	Nested        = guest.Nested
	SyscallOp     = guest.SyscallOp

	Process      = handle.Process
	Worker       = handle.Worker
	File         = handle.File
	FileMode     = handle.FileMode
	AsyncSyscall = handle.AsyncSyscall

	HandleVM = handle.VM // a *VM

	Stream = stream.Stream
	Site   = stream.Site
)

// How a command ended.
const (
	Exited    = guest.Exited
	Signalled = guest.Signalled
	TimedOut  = guest.TimedOut
)

// Mode returns a Perm with these bits; the zero Perm is the default of the call.
func Mode(bits uint32) Perm { return guest.Mode(bits) }

// Caller is a *VM or a *Worker.
type Caller interface {
	VM() handle.VM
	AsActor() *handle.Actor
}

// MakeSyscall makes a system call and returns what it returned.
func MakeSyscall(ctx context.Context, by Caller, op string, s Syscall) (*SyscallResult, error) {
	return by.AsActor().Syscall(ctx, op, s)
}

// ReadMem returns bytes of the caller's own memory, or an errno.
func ReadMem(ctx context.Context, by Caller, address uint64, n int) (data []byte, errno int, err error) {
	return by.AsActor().ReadMem(ctx, address, n)
}

// FDStream opens a stream of what can be read from a descriptor of the caller.
func FDStream(ctx context.Context, by Caller, _ string, fd int64, site Site) (*Stream, error) {
	return by.AsActor().FDStream(ctx, fd, site)
}

// TailFile opens a stream of what is added to a file behind start.
func TailFile(ctx context.Context, by Caller, path string, start int64, fromEnd bool, site Site) (*Stream, error) {
	return by.AsActor().TailFile(ctx, path, start, fromEnd, site)
}

// StartSyscall starts a system call beside others and returns at once.
func StartSyscall(ctx context.Context, by Caller, s Syscall) (*AsyncSyscall, error) {
	return by.AsActor().SyscallAsync(ctx, s)
}

// OpenFile opens a file with the caller's credentials.
func OpenFile(ctx context.Context, by Caller, path string, mode FileMode) (*File, error) {
	return by.AsActor().OpenFile(ctx, path, mode)
}

// Ioctl makes an ioctl with data behind its third argument, nil for none.
func Ioctl(ctx context.Context, by Caller, fd, cmd int64, data []byte, bufs [][]byte, offsets []uint64) (*SyscallResult, error) {
	return by.AsActor().Ioctl(ctx, fd, cmd, data, bufs, offsets)
}
