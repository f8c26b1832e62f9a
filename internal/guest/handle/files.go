package handle

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"provium/internal/guest"
)

// fileOps are the operations on whole files. A *guest.Client asks the agent for them, as
// root; syscallFiles makes them of system calls.
type fileOps interface {
	ReadFile(ctx context.Context, path string) ([]byte, error)
	WriteFile(ctx context.Context, path string, data []byte, perm guest.Perm) error
	PushFile(ctx context.Context, path string, from io.Reader, perm guest.Perm) error
	PullFile(ctx context.Context, path string, to io.Writer) (perm uint32, err error)
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

// PushFile copies a host file, or a directory with its contents, into the guest.
// Permission bits are kept, unless perm is given for the files; directories keep
// theirs. Symbolic links of the host are followed.
func (a *Actor) PushFile(ctx context.Context, hostPath, guestPath string, perm guest.Perm) error {
	return changeFiles(ctx, a, "push_file", guestPath, func(f fileOps) error {
		return push(ctx, f, hostPath, guestPath, perm)
	})
}

func push(ctx context.Context, to fileOps, hostPath, guestPath string, perm guest.Perm) error {
	info, err := os.Stat(hostPath)
	switch {
	case err != nil:
		return fmt.Errorf("host file %s: %w", hostPath, err)
	case info.IsDir():
		return pushDir(ctx, to, hostPath, guestPath, info, perm)
	case !info.Mode().IsRegular():
		return fmt.Errorf("host file %s is neither a regular file nor a directory", hostPath)
	}
	f, err := os.Open(hostPath)
	if err != nil {
		return fmt.Errorf("host file %s: %w", hostPath, err)
	}
	defer f.Close()
	if perm == (guest.Perm{}) {
		perm = guest.Mode(permBits(info.Mode()))
	}
	return to.PushFile(ctx, guestPath, f, perm)
}

func pushDir(ctx context.Context, to fileOps, hostPath, guestPath string, info os.FileInfo, perm guest.Perm) error {
	if err := to.Mkdir(ctx, guestPath, true, guest.Mode(permBits(info.Mode()))); err != nil {
		return err
	}
	entries, err := os.ReadDir(hostPath)
	if err != nil {
		return fmt.Errorf("host directory %s: %w", hostPath, err)
	}
	for _, e := range entries {
		inGuest := strings.TrimSuffix(guestPath, "/") + "/" + e.Name()
		if err := push(ctx, to, filepath.Join(hostPath, e.Name()), inGuest, perm); err != nil {
			return err
		}
	}
	return nil
}

// permBits returns the permission bits of a mode as Linux has them.
func permBits(m os.FileMode) uint32 {
	bits := uint32(m.Perm())
	for flag, bit := range map[os.FileMode]uint32{os.ModeSetuid: 0o4000, os.ModeSetgid: 0o2000, os.ModeSticky: 0o1000} {
		if m&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

// PullFile copies a guest file to the host, with its permission bits. The host file
// appears when it is complete.
func (a *Actor) PullFile(ctx context.Context, guestPath, hostPath string) error {
	if info, err := os.Stat(hostPath); err == nil && info.IsDir() {
		return fmt.Errorf("host path %s is a directory; name the file", hostPath)
	}
	to, err := os.CreateTemp(filepath.Dir(hostPath), ".pull-*")
	if err != nil {
		return fmt.Errorf("host file %s: %w", hostPath, err)
	}
	defer os.Remove(to.Name())
	defer to.Close()
	perm, err := files(ctx, a, "pull_file", guestPath, func(f fileOps) (uint32, error) {
		return f.PullFile(ctx, guestPath, to)
	})
	if err != nil {
		return err
	}
	if err := to.Chmod(os.FileMode(perm & 0o777)); err != nil {
		return fmt.Errorf("host file %s: %w", hostPath, err)
	}
	if err := to.Close(); err != nil {
		return fmt.Errorf("host file %s: %w", hostPath, err)
	}
	if err := os.Rename(to.Name(), hostPath); err != nil {
		return fmt.Errorf("host file %s: %w", hostPath, err)
	}
	return nil
}
