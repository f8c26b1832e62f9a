package guestos

import (
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/deadline"
	"provium/internal/guest"
)

// fakeGuest is a guest of files and of programs that print what they are asked for.
type fakeGuest struct {
	files map[string]string
	runs  map[string]*guest.RunResult // by the command line, or its beginning
	ran   []string
	err   error // of every operation
}

func (g *fakeGuest) refuse(op, path string) error {
	return &guest.OpError{Op: op, Path: path, Errno: uint32(unix.ENOENT), Name: "ENOENT", Text: "No such file"}
}

func (g *fakeGuest) Run(_ context.Context, r guest.RunRequest) (*guest.RunResult, error) {
	line := r.Shell
	if r.Path != "" {
		line = strings.Join(append([]string{r.Path}, r.Args...), " ")
	}
	g.ran = append(g.ran, line)
	if g.err != nil {
		return nil, g.err
	}
	for n := len(line); n > 0; n-- {
		if result := g.runs[line[:n]]; result != nil {
			return result, nil
		}
	}
	return nil, g.refuse("run", r.Path)
}

func (g *fakeGuest) ReadFile(_ context.Context, path string) ([]byte, error) {
	if g.err != nil {
		return nil, g.err
	}
	if text, ok := g.files[path]; ok {
		return []byte(text), nil
	}
	return nil, g.refuse("read_file", path)
}

func (g *fakeGuest) Stat(ctx context.Context, path string, _ bool) (*guest.FileInfo, error) {
	text, err := g.ReadFile(ctx, path)
	return &guest.FileInfo{Size: int64(len(text))}, err
}

func prints(text string) *guest.RunResult { return &guest.RunResult{Stdout: []byte(text)} }

func exits(code int, stdout, stderr string) *guest.RunResult {
	return &guest.RunResult{ExitCode: code, Stdout: []byte(stdout), Stderr: []byte(stderr)}
}

// soon is a limit that is over after a few looks.
func soon() *deadline.Deadline { return deadline.Begin(50*time.Millisecond, deadline.Clock{}) }

// patient is a limit that does not end before the test.
func patient() *deadline.Deadline { return deadline.Begin(time.Hour, deadline.Clock{}) }

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("it failed: %v", err)
	case want != "" && err == nil:
		t.Errorf("it did not fail, want %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("the error is %q, want %q", err, want)
	}
}
