package run

import (
	"strings"
	"testing"

	"provium/internal/choose"
)

func TestIgnoredReports(t *testing.T) {
	patterns := []string{"^a", "b$"}
	for name, c := range map[string]struct {
		ended []*done
		want  []string
	}{
		"none was used":    {[]*done{{}, {}}, patterns},
		"one was used":     {[]*done{{}, {Ignored: []string{"b$"}}}, []string{"^a"}},
		"both were used":   {[]*done{{Ignored: []string{"b$"}}, {Ignored: []string{"^a"}}}, nil},
		"a file is killed": {[]*done{{}, nil}, nil},
	} {
		var r ignoredReports
		for _, d := range c.ended {
			r.add(d)
		}
		var out strings.Builder
		r.note(&out, patterns)
		want := ""
		for _, p := range c.want {
			want += "provium: note: oops_ignore `" + p + "` has taken out no report of a kernel in this run\n"
		}
		if out.String() != want {
			t.Errorf("%s: %q, want %q", name, out.String(), want)
		}
	}
}

// TestIgnoredInVain has a whole run, and a part of it.
func TestIgnoredInVain(t *testing.T) {
	const note = "oops_ignore `^never$` has taken out no report"
	r := newLocalRun(t, "[provium]\nroots = [\".\"]\noops_ignore = [\"^never$\"]\n",
		map[string]string{"a": "test('x', function() end)"})
	r.o.Select.Paths = nil
	run := func() {
		if code, err := r.run(); code != ExitOK || err != nil {
			t.Fatal(code, err)
		}
	}
	run()
	if !strings.Contains(r.stderr, note) {
		t.Errorf("no note:\n%s", r.stderr)
	}
	r.o.Filter = choose.Filter{Names: []string{"x"}}
	run()
	if strings.Contains(r.stderr, note) {
		t.Errorf("a note on a part of the suite:\n%s", r.stderr)
	}
}
