package twice

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/determinism"
	"provium/internal/syncpoint"
)

// TestRun compares runs whose guests do the same or not, and whose tests pass or fail.
func TestRun(t *testing.T) {
	same, other, none := []string{"a", "a"}, []string{"a", "b"}, []string{"", ""}
	for name, c := range map[string]struct {
		sent  []string // to the guest, by run
		codes []int
		want  int
		text  string
		fails string
	}{
		"same":         {same, []int{0, 0}, 0, "the same in both runs: 1 sync points, digest ", ""},
		"failed alike": {same, []int{1, 1}, 1, "the same in both runs: 1 sync points, digest ", ""},
		"other":        {other, []int{0, 0}, 1, "differs: x.test.lua n1 1: ", ""},
		"failed once":  {other, []int{0, 1}, 1, "differs: x.test.lua n1 1: ", ""},
		"no guest":     {none, []int{0, 0}, 0, "", "no deterministic guest has run"},
		"no run":       {same, []int{2}, 2, "", ""},
		"three": {[]string{"a", "a", "a"}, []int{0, 0, 0}, 0,
			"the same in all 3 runs: 1 sync points, digest ", ""},
		"third": {[]string{"a", "a", "b"}, []int{0, 0, 0}, 1, "differs: x.test.lua n1 1: ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ram, err := os.Create(filepath.Join(t.TempDir(), "ram"))
			if err != nil {
				t.Fatal(err)
			}
			defer ram.Close()
			var out, log bytes.Buffer
			runs := 0
			code, err := Run(len(c.codes), t.TempDir(), &out, &log, func(dir string) (int, error) {
				runs++
				if sent := c.sent[runs-1]; sent != "" {
					record := (&determinism.Check{Dir: dir}).Recorder("x.test.lua", "n1")
					if err := record(ram, nil, syncpoint.Point{Kind: 'e', Sent: []byte(sent)}); err != nil {
						return 0, err
					}
				}
				return c.codes[runs-1], nil
			})
			if code != c.want || runs != len(c.codes) || !strings.HasPrefix(out.String(), c.text) ||
				(c.text == "") != (out.Len() == 0) || !strings.Contains(fmt.Sprint(err), c.fails) ||
				(c.fails == "") != (err == nil) {
				t.Errorf("code %d, %d runs, %q, %v", code, runs, out.String(), err)
			}
		})
	}
}
