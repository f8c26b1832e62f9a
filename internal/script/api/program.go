package api

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/executable"
	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// pushedPrograms is where programs go by default: in the PATH of every guest.
const pushedPrograms = "/usr/local/bin"

// pushProgram copies a program of the host with what it needs to start.
func pushProgram(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	from, err := a.Path(1, "host_path")
	if err != nil {
		return nil, err
	}
	o, err := a.Options(2)
	if err != nil {
		return nil, err
	}
	from = x.BesideFile(a.Call, from)
	to, err := o.Path("to")
	if err != nil {
		return nil, err
	}
	switch {
	case to == "":
		to = path.Join(pushedPrograms, filepath.Base(from))
	case !path.IsAbs(to):
		return nil, o.Errorf("to", "must be an absolute path of the guest, got %s", value.Quote(to))
	}
	libraryPath, err := o.Str("library_path", "")
	if err != nil {
		return nil, err
	}
	tracked, err := o.Bool("auto_dep", true)
	if err != nil {
		return nil, err
	}
	limit, err := fileLimit(o)
	if err != nil {
		return nil, err
	}
	needs, err := executable.ResolveProgram(from, to, libraryPath)
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	if tracked {
		for _, file := range append([]string{from}, needs.Files()...) {
			if err := x.session.Build().Uses(file); err != nil {
				return nil, a.Errorf("host file: %w", err)
			}
		}
	}
	err = limitedOp(x, a, by.VM(), limit, func(ctx context.Context) error {
		return copyProgram(ctx, by, from, to, needs)
	})
	return value.Results(err, to)
}

// copyProgram copies a program and those of its libraries that the guest does not have.
func copyProgram(ctx context.Context, by guestSide, from, to string, needs *executable.Needs) error {
	push := func(from, to string) error {
		if err := by.Mkdir(ctx, path.Dir(to), true, guest.Perm{}); err != nil {
			return err
		}
		return by.PushFile(ctx, from, to, guest.Perm{})
	}
	if err := push(from, to); err != nil || needs == nil {
		return err
	}
	libraries := append([]executable.Library{{Path: needs.Loader, At: needs.Loader}}, needs.Libraries...)
	for _, l := range libraries {
		there, err := (guestFiles{by}).Exists(ctx, l.At)
		if err == nil && !there {
			err = push(l.Path, l.At)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// guestFiles are the files of a guest, for package executable.
type guestFiles struct{ by guestSide }

// Exists implements executable.Guest.
func (g guestFiles) Exists(ctx context.Context, path string) (bool, error) {
	_, err := g.by.Stat(ctx, path, true)
	var failed *guest.OpError
	if errors.As(err, &failed) {
		return false, nil
	}
	return err == nil, err
}

// Head implements executable.Guest.
func (g guestFiles) Head(ctx context.Context, path string, n int) ([]byte, error) {
	f, err := g.by.OpenFile(ctx, path, handle.FileMode{Read: true})
	if err != nil {
		return nil, err
	}
	head, err := f.Read(ctx, n)
	return head, errors.Join(err, f.Close(ctx))
}

// Target implements executable.Guest.
func (g guestFiles) Target(ctx context.Context, path string) (string, error) {
	target, err := g.by.FileCall(ctx, guest.ReadlinkCall(path))
	return string(target), err
}

// explainMissing says in a result, or in the error of a program that was to be started
// directly, what the guest lacks for it. It returns err or a better error.
func explainMissing(ctx context.Context, by guestSide, request guest.RunRequest, r *guest.RunResult, err error) error {
	attempt := executable.Attempt{Name: request.Path, Path: request.Env["PATH"], Cwd: request.Cwd}
	var failed *guest.OpError
	switch {
	case errors.As(err, &failed):
		isMissing := failed.Errno == uint32(unix.ENOENT) || failed.Errno == uint32(unix.ENOEXEC)
		isOther := strings.HasPrefix(failed.Text, "cwd ") || strings.HasPrefix(failed.Text, "user ")
		if !isMissing || isOther || request.Path == "" {
			return err
		}
		if text := executable.Diagnose(ctx, guestFiles{by}, attempt); text != "" {
			return fmt.Errorf("%w: %s", err, text)
		}
	case err != nil || r.ExitCode != executable.NotFound:
	case executable.LacksLibrary(r.Stderr):
		r.Reason = "`vm:push_program` pushes a program with its libraries"
	case request.Shell != "":
		attempt.Name = executable.FromShell(r.Stderr)
		r.Reason = executable.Diagnose(ctx, guestFiles{by}, attempt)
	}
	return err
}
