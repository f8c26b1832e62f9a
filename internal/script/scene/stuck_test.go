package scene

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseStat(t *testing.T) {
	for text, want := range map[string]task{
		"40 (a )( b) S 30 1 1 0 -1 4194304 1": {pid: 40, parent: 30, state: "S", name: "a )( b"},
		"2 (kthreadd) S 0 0 0 0 -1 2129984":   {pid: 2, state: "S", name: "kthreadd", isKernel: true},
	} {
		got, ok := parseStat(text)
		if !ok || got.pid != want.pid || got.parent != want.parent || got.state != want.state ||
			got.name != want.name || got.isKernel != want.isKernel {
			t.Errorf("%q: %+v", text, got)
		}
	}
	for _, text := range []string{"", "1 (x", "1 x) S", ") 1 (", "1 (x) S", "x (x) S 1 1 1 1 1 1",
		"1 (x) S y 1 1 1 1 1", "1 (x) S 1 1 1 1 1 -1"} {
		if got, ok := parseStat(text); ok {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// TestChoose has parents in a circle, and more processes than are listed.
func TestChoose(t *testing.T) {
	all := []task{{pid: 1, parent: 2, state: "S"}, {pid: 2, parent: 1, state: "S"},
		{pid: 3, state: "S", name: agentName}, {pid: 4, parent: 3, state: "S", name: "cat"},
		{pid: 5, parent: 4, state: "S", name: "child"}, {pid: 6, state: "I", isKernel: true},
		{pid: 7, state: "D", isKernel: true}}
	var got []int
	for _, c := range choose(all) {
		got = append(got, c.pid)
		if c.ofTest != (c.pid == 4 || c.pid == 5) {
			t.Errorf("%+v", c)
		}
	}
	if want := []int{7, 4, 5, 1, 2, 3}; len(got) != len(want) || got[0] != 7 || got[1] != 4 || got[5] != 3 {
		t.Errorf("%v, want %v", got, want)
	}
	if n := len(choose(make([]task, 1000))); n != maxListed {
		t.Error(n)
	}
}

// TestLocate has a thread show the system call that it makes, and its state.
func TestLocate(t *testing.T) {
	thread := task{pid: 61, state: "?", isThread: true}
	thread.locate([]string{"futex_wait\n", "[<0>] a\n[<0>] b\n", "61 (x) S 30 1 1 0 -1 4194560", "202 0x7f 0x0\n"})
	if thread.state != "S" || thread.command != "syscall_async(202)" || thread.at != "futex_wait" ||
		len(thread.stack) != 2 {
		t.Errorf("%+v", thread)
	}
	process := task{command: "cat"}
	process.locate([]string{"0", "", "", "0 0x3\n"})
	if process.command != "cat" || process.at != "" {
		t.Errorf("%+v", process)
	}
	running := task{state: "?", isThread: true}
	running.locate([]string{"", "", "", "running\n"})
	if running.command != "" || running.state != "?" {
		t.Errorf("%+v", running)
	}
}

func FuzzStat(f *testing.F) {
	f.Add("40 (a )( b) D 30 1 1 0 -1 4194304 1", "cat\x00/tmp/f", "pipe_read", "[<0>] pipe_read+0x1/0x2\n")
	f.Add("2 (\x1b[2J) S 0 0 0 0 -1 2129984", "", "\xff", strings.Repeat("x\n", 100))
	f.Fuzz(func(t *testing.T, stat, command, at, stack string) {
		parsed, ok := parseStat(stat)
		if !ok {
			return
		}
		parsed.command = command
		thread := parsed
		thread.isThread = true
		parsed.locate([]string{at, stack, stat, command})
		thread.locate([]string{at, stack, stat, command})
		text := table(append(choose([]task{parsed}), thread))
		if strings.ContainsAny(text, "\x1b\x00\r") || !utf8.ValidString(text) || strings.Count(text, "\n") > 40 {
			t.Errorf("%q", text)
		}
	})
}
