package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"provium/internal/guest"
)

// The types of guest operations, for callers that see only this package.
type (
	RunRequest  = guest.RunRequest
	RunResult   = guest.RunResult
	RunStatus   = guest.Status
	FileInfo    = guest.FileInfo
	DirEntry    = guest.DirEntry
	Perm        = guest.Perm
	OpError     = guest.OpError
	BatchOp     = guest.Op
	BatchResult = guest.Result
	RunOp       = guest.RunOp
	ReadFileOp  = guest.ReadFileOp
	WriteFileOp = guest.WriteFileOp
	StatOp      = guest.StatOp
	ListDirOp   = guest.ListDirOp
	MkdirOp     = guest.MkdirOp
	UnlinkOp    = guest.UnlinkOp
	RenameOp    = guest.RenameOp
)

// How a command ended.
const (
	Exited    = guest.Exited
	Signalled = guest.Signalled
	TimedOut  = guest.TimedOut
)

// Mode is a Perm with these bits; the zero Perm is the default of the call.
func Mode(bits uint32) Perm { return guest.Mode(bits) }

// guestOp runs one operation on the agent. It fails at once when the VM is not
// booted or its guest ends, with the reason.
func (v *VM) guestOp(ctx context.Context, op string, do func(*guest.Client) error) error {
	inst, err := v.serving(op)
	if err != nil {
		return err
	}
	if inst.isSuspended() {
		return fmt.Errorf("cannot %s: vm `%s` is suspended (S3); call vm:wakeup() first", op, v.name)
	}
	end, err := v.beginOp(ctx, op)
	if err != nil {
		return err
	}
	defer end()
	link, err := inst.client(ctx)
	if err != nil {
		return err
	}
	return do(link)
}

// guestValue is guestOp for operations with a value.
func guestValue[T any](ctx context.Context, v *VM, op string, do func(*guest.Client) (T, error)) (T, error) {
	var value T
	err := v.guestOp(ctx, op, func(c *guest.Client) (err error) {
		value, err = do(c)
		return err
	})
	return value, err
}

// Ping makes one round trip to the agent: the guest's sign of life.
func (v *VM) Ping(ctx context.Context) error {
	return v.guestOp(ctx, "ping", func(c *guest.Client) error { return c.Ping(ctx) })
}

// Run runs a command to its end. Exit codes, signals and timeouts are no
// errors.
func (v *VM) Run(ctx context.Context, r RunRequest) (*RunResult, error) {
	return guestValue(ctx, v, "run", func(c *guest.Client) (*RunResult, error) { return c.Run(ctx, r) })
}

// ReadFile returns the contents of a guest file of at most 96 MiB.
func (v *VM) ReadFile(ctx context.Context, path string) ([]byte, error) {
	return guestValue(ctx, v, "read_file", func(c *guest.Client) ([]byte, error) { return c.ReadFile(ctx, path) })
}

// WriteFile creates a guest file or replaces its contents.
func (v *VM) WriteFile(ctx context.Context, path string, data []byte) error {
	return v.guestOp(ctx, "write_file", func(c *guest.Client) error { return c.WriteFile(ctx, path, data, Perm{}) })
}

// Stat describes a guest file; without follow a symbolic link itself.
func (v *VM) Stat(ctx context.Context, path string, follow bool) (*FileInfo, error) {
	return guestValue(ctx, v, "stat", func(c *guest.Client) (*FileInfo, error) { return c.Stat(ctx, path, follow) })
}

// ListDir lists a guest directory.
func (v *VM) ListDir(ctx context.Context, path string) ([]DirEntry, error) {
	return guestValue(ctx, v, "listdir", func(c *guest.Client) ([]DirEntry, error) { return c.ListDir(ctx, path) })
}

// Mkdir makes a guest directory.
func (v *VM) Mkdir(ctx context.Context, path string, parents bool, perm Perm) error {
	return v.guestOp(ctx, "mkdir", func(c *guest.Client) error { return c.Mkdir(ctx, path, parents, perm) })
}

// Unlink removes a guest file or an empty directory.
func (v *VM) Unlink(ctx context.Context, path string) error {
	return v.guestOp(ctx, "unlink", func(c *guest.Client) error { return c.Unlink(ctx, path) })
}

// Rename renames within one guest file system.
func (v *VM) Rename(ctx context.Context, from, to string) error {
	return v.guestOp(ctx, "rename", func(c *guest.Client) error { return c.Rename(ctx, from, to) })
}

// Batch carries out operations one after the other in one round trip.
func (v *VM) Batch(ctx context.Context, ops []BatchOp) ([]BatchResult, error) {
	return guestValue(ctx, v, "batch", func(c *guest.Client) ([]BatchResult, error) { return c.Batch(ctx, ops) })
}

// pushTarget is where pushed files go: the agent, or a worker.
type pushTarget interface {
	Mkdir(ctx context.Context, path string, parents bool, perm Perm) error
	PushFile(ctx context.Context, path string, from io.Reader, perm Perm) error
}

// PushFile copies a host file, or a directory with what is in it, into the
// guest. Permission bits are kept unless perm is given, which then holds for
// every file (directories keep theirs).
func (v *VM) PushFile(ctx context.Context, hostPath, guestPath string, perm Perm) error {
	return v.guestOp(ctx, "push_file", func(c *guest.Client) error { return push(ctx, c, hostPath, guestPath, perm) })
}

// push follows symbolic links of the host.
func push(ctx context.Context, to pushTarget, hostPath, guestPath string, perm Perm) error {
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
	if perm == (Perm{}) {
		perm = Mode(permBits(info.Mode()))
	}
	return to.PushFile(ctx, guestPath, f, perm)
}

func pushDir(ctx context.Context, to pushTarget, hostPath, guestPath string, info os.FileInfo, perm Perm) error {
	if err := to.Mkdir(ctx, guestPath, true, Mode(permBits(info.Mode()))); err != nil {
		return err
	}
	entries, err := os.ReadDir(hostPath)
	if err != nil {
		return fmt.Errorf("host directory %s: %w", hostPath, err)
	}
	for _, e := range entries {
		if err := push(ctx, to, filepath.Join(hostPath, e.Name()), strings.TrimSuffix(guestPath, "/")+"/"+e.Name(), perm); err != nil {
			return err
		}
	}
	return nil
}

func permBits(m os.FileMode) uint32 {
	bits := uint32(m.Perm())
	for flag, bit := range map[os.FileMode]uint32{os.ModeSetuid: 0o4000, os.ModeSetgid: 0o2000, os.ModeSticky: 0o1000} {
		if m&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

// PullFile copies a guest file to the host, with its permission bits. The host
// file appears when it is complete.
func (v *VM) PullFile(ctx context.Context, guestPath, hostPath string) error {
	return pull(hostPath, func(to io.Writer) (uint32, error) {
		return guestValue(ctx, v, "pull_file", func(c *guest.Client) (uint32, error) { return c.PullFile(ctx, guestPath, to) })
	})
}

// pull has a host file filled by read, which gives its permission bits.
func pull(hostPath string, read func(to io.Writer) (perm uint32, err error)) error {
	if info, err := os.Stat(hostPath); err == nil && info.IsDir() {
		return fmt.Errorf("host path %s is a directory; name the file", hostPath)
	}
	f, err := os.CreateTemp(filepath.Dir(hostPath), ".pull-*")
	if err != nil {
		return fmt.Errorf("host file %s: %w", hostPath, err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	perm, err := read(f)
	if err != nil {
		return err
	}
	if err := f.Chmod(os.FileMode(perm & 0o777)); err != nil {
		return fmt.Errorf("host file %s: %w", hostPath, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("host file %s: %w", hostPath, err)
	}
	if err := os.Rename(f.Name(), hostPath); err != nil {
		return fmt.Errorf("host file %s: %w", hostPath, err)
	}
	return nil
}
