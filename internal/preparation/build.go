package preparation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"

	"provium/internal/config"
	"provium/internal/event"
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
// of name, once. emit, if not nil, gets events about them.
func BuildProfiles(
	ctx context.Context, starter *proc.Starter, profiles map[string]config.Profile, notes io.Writer,
	emit func(event.Event),
) error {
	if emit == nil {
		emit = func(event.Event) {}
	}
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
		emit(event.ProfileBuildStarted{Profile: name, Command: p.Build})
		started := time.Now()
		err := buildProfile(ctx, starter, p, emit)
		done := event.ProfileBuildDone{Profile: name, DurationNS: uint64(time.Since(started))}
		if err != nil {
			done.Error = err.Error()
		}
		emit(done)
		if err != nil {
			return err
		}
	}
	return nil
}

// buildProfile runs the build command of a profile.
func buildProfile(ctx context.Context, starter *proc.Starter, p config.Profile, emit func(event.Event)) error {
	if err := os.MkdirAll(p.BuildOut, 0o755); err != nil {
		return &BuildError{Profile: p.Name, Err: err}
	}
	out := &buildOutput{lines: func(text string) { emit(event.ProfileBuildOutput{Profile: p.Name, Text: text}) }}
	err := starter.RunTo(ctx, p.Dir, out, "/bin/sh", "-c", p.Build)
	out.end()
	if err == nil {
		return nil
	}
	be := &BuildError{Profile: p.Name, Output: out.all.String(), Err: err}
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		be.Code = ee.ExitCode()
	}
	return be
}

// buildOutput keeps what a command prints, and passes it on in whole lines.
type buildOutput struct {
	all   bytes.Buffer
	told  int // bytes of all that were passed on
	lines func(text string)
}

// Write takes output of the command.
func (o *buildOutput) Write(p []byte) (int, error) {
	o.all.Write(p)
	if end := bytes.LastIndexByte(p, '\n') + 1; end > 0 {
		o.tell(o.all.Len() - len(p) + end)
	}
	return len(p), nil
}

// end passes on a last line without an end.
func (o *buildOutput) end() { o.tell(o.all.Len()) }

func (o *buildOutput) tell(end int) {
	if end > o.told {
		o.lines(string(o.all.Bytes()[o.told:end]))
		o.told = end
	}
}
