package handle

import (
	"context"

	"provium/internal/guest"
)

// fileOps are the operations on whole files. A *guest.Client asks the agent for them, as
// root; syscallFiles makes them of system calls.
type fileOps interface {
	ReadFile(ctx context.Context, path string) ([]byte, error)
	WriteFile(ctx context.Context, path string, data []byte, perm guest.Perm) error
	PushPieces(ctx context.Context, path string, from *guest.DataReader, perm guest.Perm) error
	PullPieces(ctx context.Context, path string, to guest.PieceWriter) (perm uint32, err error)
	Stat(ctx context.Context, path string, follow bool) (*guest.FileInfo, error)
	ListDir(ctx context.Context, path string) ([]guest.DirEntry, error)
	Mkdir(ctx context.Context, path string, parents bool, perm guest.Perm) error
	Unlink(ctx context.Context, path string) error
	Rename(ctx context.Context, from, to string) error
	FileCall(ctx context.Context, f guest.FileCall) ([]byte, error)
}

// files carries out a file operation. For a worker each system call is an operation on
// the guest.
func files[T any](ctx context.Context, a *Actor, op, path string, do func(fileOps) (T, error)) (T, error) {
	if a.worker != nil {
		v, err := do(syscallFiles{a})
		return v, Named(a.vm, op, path, err)
	}
	c, _, err := a.vm.BeginOp(ctx, op)
	if err != nil {
		var none T
		return none, Named(a.vm, op, path, err)
	}
	defer a.vm.EndOp(op)
	v, err := do(c)
	return v, Named(a.vm, op, path, err)
}

// changeFiles is files for operations without a result.
func changeFiles(ctx context.Context, a *Actor, op, path string, do func(fileOps) error) error {
	_, err := files(ctx, a, op, path, func(f fileOps) (struct{}, error) { return struct{}{}, do(f) })
	return err
}

// ReadFile returns the contents of a file of at most 96 MiB.
func (a *Actor) ReadFile(ctx context.Context, path string) ([]byte, error) {
	return files(ctx, a, "read_file", path, func(f fileOps) ([]byte, error) { return f.ReadFile(ctx, path) })
}

// WriteFile creates a file or replaces its contents.
func (a *Actor) WriteFile(ctx context.Context, path string, data []byte) error {
	return changeFiles(ctx, a, "write_file", path, func(f fileOps) error {
		return f.WriteFile(ctx, path, data, guest.Perm{})
	})
}

// Stat describes a file; without follow a symbolic link itself.
func (a *Actor) Stat(ctx context.Context, path string, follow bool) (*guest.FileInfo, error) {
	return files(ctx, a, "stat", path, func(f fileOps) (*guest.FileInfo, error) { return f.Stat(ctx, path, follow) })
}

// ListDir returns the entries of a directory, sorted by name.
func (a *Actor) ListDir(ctx context.Context, path string) ([]guest.DirEntry, error) {
	return files(ctx, a, "listdir", path, func(f fileOps) ([]guest.DirEntry, error) { return f.ListDir(ctx, path) })
}

// Mkdir creates a directory. With parents it also creates what is missing above it, and
// accepts an existing directory.
func (a *Actor) Mkdir(ctx context.Context, path string, parents bool, perm guest.Perm) error {
	return changeFiles(ctx, a, "mkdir", path, func(f fileOps) error { return f.Mkdir(ctx, path, parents, perm) })
}

// Unlink removes a file or an empty directory.
func (a *Actor) Unlink(ctx context.Context, path string) error {
	return changeFiles(ctx, a, "unlink", path, func(f fileOps) error { return f.Unlink(ctx, path) })
}

// Rename renames within one file system.
func (a *Actor) Rename(ctx context.Context, from, to string) error {
	return changeFiles(ctx, a, "rename", from+" -> "+to, func(f fileOps) error { return f.Rename(ctx, from, to) })
}

// FileCall carries out an operation on files that is one system call. It returns what the
// call answers with.
func (a *Actor) FileCall(ctx context.Context, call guest.FileCall) ([]byte, error) {
	op, path := call.Op()
	return files(ctx, a, op, path, func(f fileOps) ([]byte, error) { return f.FileCall(ctx, call) })
}
