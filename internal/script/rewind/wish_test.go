package rewind

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for line, want := range map[string]Wish{
		"rewind": {}, " rewind() ": {}, "rewind(3)": {Number: 3}, "rewind ( 12 );": {Number: 12},
		`rewind("tests/a.test.lua:7")`: {Where: "tests/a.test.lua:7"}, `rewind 'a.test.lua:7'`: {Where: "a.test.lua:7"},
	} {
		if got, ok, err := Parse(line); got != want || !ok || err != nil {
			t.Errorf("%s: %+v, %t, %v", line, got, ok, err)
		}
	}
	for _, line := range []string{"rewind = 5", "rewinding()", "x = rewind(3)", "rewind.x", "vm:run('rewind')", ""} {
		if got, ok, err := Parse(line); ok || err != nil {
			t.Errorf("%s: %+v, %t, %v", line, got, ok, err)
		}
	}
	for _, line := range []string{"rewind(0)", "rewind(-1)", "rewind(n)", "rewind(1, 2)", `rewind("")`} {
		if _, ok, err := Parse(line); !ok || err == nil || !strings.Contains(err.Error(), "FILE:LINE") {
			t.Errorf("%s: %t, %v", line, ok, err)
		}
	}
}
