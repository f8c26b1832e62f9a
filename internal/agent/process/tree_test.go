package process

import (
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const statLine = `12 (a) b) S 7 12 12 0 -1 4194304 109 0 0 0 0 0 0 0 20 0 1 0 8765 2560000 150 1844674407370 0`

func TestParseEntry(t *testing.T) {
	e, err := parseEntry(12, statLine)
	if want := (entry{12, 7, 'S', "8765"}); err != nil || e != want {
		t.Errorf("%+v %v", e, err)
	}
	for _, line := range []string{"", "12 (x", "12 (x) S", "12 (x) S seven" + strings.Repeat(" 0", 30)} {
		if e, err := parseEntry(12, line); err != unix.EPROTO {
			t.Errorf("%q: %+v %v", line, e, err)
		}
	}
	e, err = table(0).entry(os.Getpid())
	if err != nil || e.parent != os.Getppid() || e.ended() {
		t.Errorf("%+v %v", e, err)
	}
}

// FuzzParseEntry reads lines whose name may have anything in it.
func FuzzParseEntry(f *testing.F) {
	f.Add(statLine)
	f.Add("1 (\n) R 0")
	f.Fuzz(func(t *testing.T, line string) {
		e, err := parseEntry(1, line)
		if err == nil && (e.pid != 1 || e.state == 0 || e.start == "") {
			t.Errorf("%+v", e)
		}
	})
}

// TestDescendants finds the same in the whole table and in lists of children.
func TestDescendants(t *testing.T) {
	cmd := exec.Command("sh", "-c", "(sleep 1000; :) & sleep 1000 & echo up; wait")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		table(0).end(cmd.Process.Pid, false)
		_ = cmd.Wait()
	}()
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	root := cmd.Process.Pid
	if _, err := table(0).children(root); err != nil {
		t.Skip(err)
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		listed := table(0).descendants(root)
		all := table(0).all()
		var walked []int
		for next := []int{root}; len(next) > 0; next = next[1:] {
			for _, e := range all[next[0]] {
				walked, next = append(walked, e.pid), append(next, e.pid)
			}
		}
		var pids []int
		for _, e := range listed {
			pids = append(pids, e.pid)
		}
		slices.Sort(pids)
		slices.Sort(walked)
		if len(pids) == 3 && slices.Equal(pids, walked) {
			return
		}
	}
	t.Error("the two ways do not agree")
}
