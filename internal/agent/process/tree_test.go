package process

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const statLine = `12 (a) b) S 7 12 12 0 -1 4194304 109 0 0 0 0 0 0 0 20 0 1 0 8765 2560000 150 1844674407370 0`

func TestParseEntry(t *testing.T) {
	e, err := parseEntry(12, []byte(statLine))
	if want := (entry{12, 7, 'S', "8765"}); err != nil || e != want {
		t.Errorf("%+v %v", e, err)
	}
	for _, line := range []string{"", "12 (x", "12 (x) S", "12 (x) S seven" + strings.Repeat(" 0", 30)} {
		if e, err := parseEntry(12, []byte(line)); err != unix.EPROTO {
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
		e, err := parseEntry(1, []byte(line))
		if err == nil && (e.pid != 1 || e.state == 0 || e.start == "") {
			t.Errorf("%+v", e)
		}
	})
}
