package determinism

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"provium/internal/syncpoint"
)

// ram returns a file of guest memory.
func ram(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "ram"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFirstDifference(t *testing.T) {
	points := []syncpoint.Point{{Kind: 'e', Op: "boot", Sent: []byte("hello")}, {Kind: 't'},
		{Kind: 's', Op: "vm:run at a.lua:3", Received: []byte("42")}}
	run := func(change func(*os.File, []syncpoint.Point) []syncpoint.Point) string {
		t.Helper()
		dir, memory := t.TempDir(), ram(t)
		if _, err := memory.WriteAt([]byte("kernel"), 5*pageSize); err != nil {
			t.Fatal(err)
		}
		all := change(memory, append([]syncpoint.Point(nil), points...))
		record := (&Check{Dir: dir}).Recorder("a.test.lua", "n1")
		for _, p := range all {
			if err := record(memory, nil, p); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	same := func(_ *os.File, p []syncpoint.Point) []syncpoint.Point { return p }
	plain := run(same)
	sum := func(dir string) string {
		t.Helper()
		text, err := Digest(dir)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for want, change := range map[string]func(*os.File, []syncpoint.Point) []syncpoint.Point{
		"": func(f *os.File, p []syncpoint.Point) []syncpoint.Point {
			_, _ = f.WriteAt(make([]byte, pageSize), 9*pageSize) // an empty page that was touched
			return p
		},
		"answered something else in or before vm:run at a.lua:3 (sync point 3)": func(_ *os.File,
			p []syncpoint.Point) []syncpoint.Point {
			p[2].Received = []byte("43")
			return p
		},
		"did something else in or before boot (sync point 1)": func(_ *os.File, p []syncpoint.Point) []syncpoint.Point {
			p[0].Sent = []byte("hallo")
			return p
		},
		"something else on its consoles in or before boot (sync point 1)": func(_ *os.File,
			p []syncpoint.Point) []syncpoint.Point {
			p[0].Printed = "x"
			return p
		},
		"memory differs in or before boot (sync point 1)": func(f *os.File, p []syncpoint.Point) []syncpoint.Point {
			_, _ = f.WriteAt([]byte("x"), 7*pageSize)
			return p
		},
		"by another way in or before vm:run": func(_ *os.File, p []syncpoint.Point) []syncpoint.Point {
			return append(p[:1], p[2])
		},
		"went on in the first run only in or before vm:run": func(_ *os.File, p []syncpoint.Point) []syncpoint.Point {
			return p[:2]
		},
	} {
		other := run(change)
		if (sum(other) == sum(plain)) != (want == "") {
			t.Errorf("%q: digests %s and %s", want, sum(other), sum(plain))
		}
		all, n, err := Compare(plain, other)
		switch {
		case err != nil:
			t.Error(err)
		case want == "":
			if len(all) > 0 || n != 2 {
				t.Errorf("%d points, %+v", n, all)
			}
		case len(all) != 1 || !strings.Contains(all[0].String(), want) || all[0].Guest != "a.test.lua n1 1":
			t.Errorf("%+v, want %q", all, want)
		}
	}
	all, _, err := Compare(plain, t.TempDir())
	if err != nil || len(all) != 1 || !strings.Contains(all[0].String(), "in the first run only") {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestDamagedLog(t *testing.T) {
	for text, n := range map[string]int{"": 0, `{"n":1}` + "\n" + `{"n":2`: 1, "x\n": -1,
		`{"n":1,"other":2}` + "\n": -1, strings.Repeat("x", maxLine+1): -1} {
		p, err := decode(strings.NewReader(text))
		if (err != nil) != (n < 0) || n > 0 && len(p) != n {
			t.Errorf("%.20q: %d points, %v", text, len(p), err)
		}
	}
}

func TestNoCheck(t *testing.T) {
	if New("") != nil || New("").Recorder("a", "b") != nil {
		t.Error("something is written down")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"n":1,"kind":"e","op":"boot","sent":"a","received":"b","memory":"c"}` + "\n"))
	f.Add([]byte("{}\n{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := decode(bytes.NewReader(text))
		if err != nil {
			return
		}
		b, err := decode(bytes.NewReader(text))
		if err != nil || !reflect.DeepEqual(a, b) {
			t.Error("decoded differently")
		}
		if n, d := compare(a, b); n != len(a) || d != nil {
			t.Error(n, d)
		}
	})
}
