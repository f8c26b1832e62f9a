package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tmux is a terminal as a person sees it: the screen, not what was written to it.
type tmux struct {
	t      *testing.T
	socket string
}

// inTmux starts a shell command on a terminal of a size, in a project.
func (p *project) inTmux(cols, rows int, command string) *tmux {
	p.t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		p.t.Skip("tmux is not installed")
	}
	dir, err := os.MkdirTemp("/tmp", "tmux-")
	if err != nil {
		p.t.Fatal(err)
	}
	s := &tmux{p.t, filepath.Join(dir, "socket")}
	start := s.command("new-session", "-d", "-x", fmt.Sprint(cols), "-y", fmt.Sprint(rows), "--", "/bin/sh", "-c",
		command)
	start.Dir, start.Env = p.dir, p.env
	if out, err := start.CombinedOutput(); err != nil {
		p.t.Fatalf("tmux: %v\n%s", err, out)
	}
	p.t.Cleanup(func() {
		_ = s.command("kill-server").Run() // it ends with its last program
		os.RemoveAll(dir)
	})
	s.do("set-option", "-g", "remain-on-exit", "on")
	return s
}

func (s *tmux) command(args ...string) *exec.Cmd {
	return exec.Command("tmux", append([]string{"-S", s.socket, "-f", "/dev/null"}, args...)...)
}

func (s *tmux) do(args ...string) string {
	s.t.Helper()
	out, err := s.command(args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// screen returns what is seen, without empty lines at the end.
func (s *tmux) screen() string {
	s.t.Helper()
	return strings.TrimRight(s.do("capture-pane", "-p"), "\n")
}

// await waits until the screen is as is wanted, and returns it.
func (s *tmux) await(what string, is func(screen string) bool) string {
	s.t.Helper()
	for deadline := time.Now().Add(shownWithin); ; time.Sleep(100 * time.Millisecond) {
		screen := s.screen()
		if is(screen) {
			return screen
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the screen never shows %s\n%s", what, screen)
		}
	}
}

// awaitText waits until all texts are seen.
func (s *tmux) awaitText(texts ...string) string {
	s.t.Helper()
	return s.await(fmt.Sprintf("%q", texts), func(screen string) bool {
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return false
			}
		}
		return true
	})
}

// last returns the last lines of a screen.
func last(screen string, n int) []string {
	lines := strings.Split(screen, "\n")
	return lines[max(0, len(lines)-n):]
}
