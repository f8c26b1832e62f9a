package api

import (
	"context"
	"maps"

	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// guestSide runs commands in a guest and works with its files: a VM, or a
// worker, which has separate credentials and namespaces.
type guestSide interface {
	handle.Caller
	Run(ctx context.Context, r guest.RunRequest) (*guest.RunResult, error)
	RunAsync(ctx context.Context, r guest.RunRequest) (*handle.Process, error)
	ReadFile(ctx context.Context, path string) ([]byte, error)
	WriteFile(ctx context.Context, path string, data []byte) error
	PushFile(ctx context.Context, hostPath, guestPath string, perm guest.Perm) error
	PullFile(ctx context.Context, guestPath, hostPath string) error
	Stat(ctx context.Context, path string, follow bool) (*guest.FileInfo, error)
	ListDir(ctx context.Context, path string) ([]guest.DirEntry, error)
	Mkdir(ctx context.Context, path string, parents bool, perm guest.Perm) error
	Unlink(ctx context.Context, path string) error
	Rename(ctx context.Context, from, to string) error
	OpenFile(ctx context.Context, path string, mode handle.FileMode) (*handle.File, error)
	FileCall(ctx context.Context, call guest.FileCall) ([]byte, error)
}

// guestMethods are the methods that VMs and workers both have; typ is "vm" or "worker".
func guestMethods[T guestSide](x *env, typ string) map[string]lua.GoFunc {
	methods := map[string]binding.Method[*env, T]{}
	all := map[string]binding.Method[*env, guestSide]{
		"run":           guestRun,
		"run_async":     startProcess,
		"read_file":     guestRead,
		"write_file":    guestWrite,
		"push_file":     guestPush,
		"push_program":  pushProgram,
		"pull_file":     guestPull,
		"stat":          guestStat,
		"listdir":       guestListDir,
		"mkdir":         guestMkdir,
		"unlink":        guestUnlink,
		"rename":        guestRename,
		"open_file":     openFile,
		"tail_file":     tailFile,
		"fd_stream":     fdStream,
		"syscall":       makeSyscall,
		"syscall_async": startSyscall,
		"ioctl":         ioctl,
		"read_mem":      readMem,
		"write_mem":     writeMem,
	}
	maps.Copy(all, fileCallMethods())
	for name, method := range all {
		methods[name] = func(x *env, a value.Args, by T) ([]lua.Value, error) { return method(x, a, by) }
	}
	return binding.MethodTable(x, typ, methods)
}

func guestRun(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	request, err := runRequest(a)
	if err != nil {
		return nil, err
	}
	var r *guest.RunResult
	err = x.Op(a, by.VM(), func(ctx context.Context) (err error) {
		r, err = by.Run(ctx, request)
		return explainMissing(ctx, by, request, r, err)
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{resultHandle(x, r)}, nil
}
