package history

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func took(seconds, cpu float64) Record { return Record{Seconds: seconds, CPUSeconds: cpu} }

func TestUpdateAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "history.json")
	if got := Read(path); len(got) != 0 {
		t.Error(got)
	}
	steps := []History{
		{"/a": took(10, 4), "/b": took(1, 0)},
		{"/a": took(20, 6), "/c": took(-1, 1)},
	}
	for _, h := range steps {
		if err := Update(path, h); err != nil {
			t.Fatal(err)
		}
	}
	got := Read(path)
	if want := (History{"/a": took(15, 5), "/b": took(1, 0)}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if c := got["/a"].CPUs(); c < 0.33 || c > 0.34 {
		t.Error(c)
	}
	if c := got["/c"].CPUs(); c != 0 {
		t.Error(c)
	}
}

func TestBootsAreRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.json")
	many := map[string]bool{}
	for i := range maxBoots + 1 {
		many[fmt.Sprint(i)] = true
	}
	for i, boots := range []map[string]bool{{"x": true, "y": false}, {}, nil, many} {
		r := took(1, 1)
		r.Boots = boots
		if err := Update(path, History{"/a": r}); err != nil {
			t.Fatal(err)
		}
		want := boots
		if i == 3 {
			want = nil // too many to be remembered
		}
		got := Read(path)["/a"].Boots
		if fmt.Sprint(got) != fmt.Sprint(want) || (got == nil) != (want == nil) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

// A file that never ran has what is known of it in another copy of the project.
func TestOfAnotherCopy(t *testing.T) {
	h := History{
		"/a/tests/x.lua": took(10, 1), "/b/tests/x.lua": took(20, 2), "/b/tests/y.lua": took(5, 1),
		"/b/z.lua": took(7, 1),
	}
	for path, want := range map[string]float64{
		"/a/tests/x.lua": 10, "/c/tests/x.lua": 20,
		"/c/tests/y.lua": 5, "/c/tests/z.lua": 0, "/c/ests/x.lua": 0, "/x.lua": 0,
	} {
		if got := h.Of("/c", path).Seconds; got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	if got := h.Of("/c/tests", "/c/tests/x.lua").Seconds; got != 20 {
		t.Errorf("in a project below: %v", got)
	}
}

func TestWith(t *testing.T) {
	one, two := History{"/a": took(1, 1), "/b": took(1, 1)}, History{"/b": took(2, 2)}
	if got, want := one.With(two), (History{"/a": took(1, 1), "/b": took(2, 2)}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if len(one) != 2 || one["/b"].Seconds != 1 {
		t.Errorf("it was changed: %v", one)
	}
	if got := History(nil).With(two); len(got) != 1 {
		t.Error(got)
	}
	large := History{}
	for i := range MaxBytes / recordBytes {
		large[fmt.Sprint(i)] = took(1, 1)
	}
	if got := large.With(two); len(got) != 1 {
		t.Errorf("%d records", len(got))
	}
}

func TestDamagedHistoryIsEmptyAndReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.json")
	for _, text := range []string{"", "{", `{"files":null}`, `[1]`, `{"files":{"/a":{"seconds":"x"}}}`,
		`{"files":{"/a":{"seconds":-1,"cpu_seconds":1},"/b":{"seconds":0}}}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Read(path); len(got) != 0 {
			t.Errorf("%s: %v", text, got)
		}
		if err := Update(path, History{"/x": took(1, 1)}); err != nil {
			t.Fatal(err)
		}
		if got := Read(path); len(got) != 1 {
			t.Errorf("after %s: %v", text, got)
		}
	}
}

func TestAFullHistoryForgetsFilesThatAreGone(t *testing.T) {
	dir := t.TempDir()
	here := filepath.Join(dir, "here.test.lua")
	if err := os.WriteFile(here, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	learned := History{here: took(1, 1)}
	for i := range most {
		learned[fmt.Sprintf("%s/%d", dir, i)] = took(1, 1)
	}
	path := filepath.Join(dir, "history.json")
	if err := Update(path, learned); err != nil {
		t.Fatal(err)
	}
	if got := Read(path); len(got) != 1 {
		t.Error(len(got))
	}
}
