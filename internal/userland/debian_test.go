package userland

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeTool is a bootstrap tool that writes a small system.
type fakeTool struct {
	t      *testing.T
	runs   [][]string
	stderr string
	err    error
}

func (f *fakeTool) Run(_ context.Context, _ string, _ []string, name string, args ...string) (_, _ []byte, err error) {
	f.runs = append(f.runs, append([]string{name}, args...))
	if f.err != nil {
		return nil, []byte(f.stderr), f.err
	}
	return nil, nil, os.WriteFile(args[len(args)-1], pack(f.t, entries), 0o644)
}

func TestDebian(t *testing.T) {
	m, tool := newMaker(t), &fakeTool{t: t}
	now := time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)
	m.Runner, m.Now = tool, func() time.Time { return now }
	var notices []string
	m.Notice = func(text string) { notices = append(notices, text) }
	source, err := Parse("debian:bookworm", nil)
	must(t, err)
	for range 2 {
		u, err := m.Make(t.Context(), source)
		must(t, err)
		if !u.HasInit || u.Source.String() != "debian:bookworm" {
			t.Errorf("%+v", u)
		}
	}
	if len(tool.runs) != 1 || tool.runs[0][0] != BootstrapProgram || !slices.Contains(tool.runs[0], "bookworm") ||
		len(notices) != 1 {
		t.Error(tool.runs, notices)
	}
	now = now.Add(2 * time.Hour)
	_, err = m.Make(t.Context(), source)
	must(t, err)
	if len(tool.runs) != 2 {
		t.Error("an old system is used")
	}
	now = now.AddDate(0, 1, 0)
	notFound := &exec.Error{Name: "x", Err: exec.ErrNotFound}
	for want, failure := range map[string]error{
		"mmdebstrap, which makes it, is not installed (package mmdebstrap)": notFound,
		"E: not found; E: more": errors.New("exit status 1"),
	} {
		tool.err, tool.stderr = failure, "I: start\nE: 1\nE: 2\nE: 3\nE: not found\nW: this\nE: more\n"
		if _, err := m.Make(t.Context(), source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	m.Runner = nil
	_, err = m.Make(t.Context(), source)
	if err == nil || !strings.Contains(err.Error(), "downloads are switched off") {
		t.Error(err)
	}
	for _, text := range []string{"debian:", "debian:12", "debian:../x", "debian:-x"} {
		if _, err := Parse(text, nil); err == nil || !strings.Contains(err.Error(), "is not a release of Debian") {
			t.Error(text, err)
		}
	}
}
