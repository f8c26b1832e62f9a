package proc

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestEndCommand has two commands in the process group of the test, and one of a Starter: the later of the two is
// ended with what it has started, then the earlier, then nothing.
func TestEndCommand(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	other := exec.Command("sleep", "86399")
	if err := s.Start(other); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	first := exec.Command("sh", "-c", "sleep 86398")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	for startOf(first.Process.Pid) == ticks(t) { // so that the next one is later
		time.Sleep(time.Millisecond)
	}
	second := exec.Command("sh", "-c", "sleep 86397; true")
	out, err := second.StdoutPipe() // which sleep holds, too
	if err == nil {
		err = second.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		text string
		cmd  *exec.Cmd
	}{{"sleep 86397; true", second}, {"sleep 86398", first}} {
		if text := endCommand(t); !strings.HasPrefix(text, "`"+want.text+"` is killed") {
			t.Errorf("%q, want %q", text, want.text)
		}
		if want.cmd == second {
			_, _ = out.Read(make([]byte, 1)) // its end
		}
		if err := want.cmd.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Error(err)
		}
	}
	if text := endCommand(t); text != "" {
		t.Errorf("%q was ended", text)
	}
	if startOf(other.Process.Pid) == 0 {
		t.Error("what a Starter has started was ended")
	}
}

func endCommand(t *testing.T) (text string) {
	EndCommand(t.Context(), func(format string, values ...any) { text = fmt.Sprintf(format, values...) })
	return text
}

// ticks returns when a process that starts now has begun.
func ticks(t *testing.T) uint64 {
	t.Helper()
	cmd := exec.Command("sleep", "86396")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	return startOf(cmd.Process.Pid)
}
