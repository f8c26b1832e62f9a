package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"

	"provium/internal/config"
	"provium/internal/proc"
)

// BuildError is a profile's build command that failed.
type BuildError struct {
	Profile string
	Code    int
	Output  string
	Err     error
}

// Error describes how the command ended.
func (e *BuildError) Error() string {
	if e.Code == 0 {
		return fmt.Sprintf("profile `%s`: build command: %v", e.Profile, e.Err)
	}
	return fmt.Sprintf("profile `%s`: build command failed (exit code %d)\n%s", e.Profile, e.Code, e.Output)
}

// Unwrap returns Err.
func (e *BuildError) Unwrap() error { return e.Err }

// BuildProfiles runs the build command of each profile that has one, in order
// of name, once.
func BuildProfiles(
	ctx context.Context, starter *proc.Starter, profiles map[string]config.Profile, notes io.Writer,
) error {
	names := make([]string, 0, len(profiles))
	for name, p := range profiles {
		if p.Build != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		p := profiles[name]
		fmt.Fprintf(notes, "provium: building profile `%s`\n", name)
		if err := os.MkdirAll(p.BuildOut, 0o755); err != nil {
			return &BuildError{Profile: name, Err: err}
		}
		stdout, stderr, err := starter.Run(ctx, p.Dir, nil, "/bin/sh", "-c", p.Build)
		if err != nil {
			be := &BuildError{Profile: name, Output: string(stdout) + string(stderr), Err: err}
			var ee *exec.ExitError
			if errors.As(err, &ee) {
				be.Code = ee.ExitCode()
			}
			return be
		}
	}
	return nil
}
