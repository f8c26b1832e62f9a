package shard

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func durations(seconds map[string]int) *Durations {
	of := map[string]time.Duration{}
	for path, s := range seconds {
		of[path] = time.Duration(s) * time.Second
	}
	return NewDurations(of)
}

func TestBalance(t *testing.T) {
	d := durations(map[string]int{"a": 10, "b": 7, "c": 5, "d": 4, "e": 4, "gone": 900})
	parts := func(n int, paths ...string) string {
		var out []string
		seen := 0
		for i := 1; i <= n; i++ {
			in := Shard{i, n}.Split(paths, d)
			var names []string
			for _, p := range []string{"a", "b", "c", "d", "e", "new"} {
				if in[p] {
					names = append(names, p)
				}
			}
			seen += len(in)
			out = append(out, strings.Join(names, ""))
		}
		if seen != len(paths) {
			t.Errorf("%d of %d files are in a part", seen, len(paths))
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		n     int
		paths []string
		want  string
	}{
		{2, []string{"a", "b", "c", "d", "e"}, "ad bce"},
		{2, []string{"e", "d", "c", "b", "a"}, "ad bce"},      // whatever the order
		{3, []string{"a", "b", "c", "d", "e"}, "a be cd"},     // 10, 11, 9
		{2, []string{"a", "b", "c", "new"}, "ac bnew"},        // new has the median, 7
		{2, []string{"d", "e"}, "d e"},                        // equal ones by their names
		{7, []string{"a", "b", "c", "d", "e"}, "a b c d e  "}, // more parts than files
	} {
		if got := parts(c.n, c.paths...); got != c.want {
			t.Errorf("%d parts of %v: %q, want %q", c.n, c.paths, got, c.want)
		}
	}
	if got := parts(1, "a", "b"); got != "ab" {
		t.Errorf("one part: %q", got)
	}
	d = durations(nil)
	if got := parts(2, "a", "b", "c"); got != "ac b" {
		t.Errorf("without durations: %q", got)
	}
}

func TestDurationsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "durations.json")
	var text bytes.Buffer
	if err := durations(map[string]int{"tests/b<>": 2, "tests/a": 1, "fast": 0}).Write(&text); err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"version\": 1,\n  \"files\": {\n    \"fast\": 1,\n    \"tests/a\": 1000,\n" +
		"    \"tests/b<>\": 2000\n  }\n}\n"
	if text.String() != want {
		t.Errorf("%s", &text)
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := ReadDurations(path)
	if err != nil || d.ms["tests/b<>"] != 2000 || !strings.HasPrefix(d.Digest, "sha256:") || len(d.Digest) != 71 {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := ReadDurations(path + "x"); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestBadDurations(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "not a durations file",
		"[]":                      "not a durations file",
		`{"version":2}`:           "of version 2",
		`{"files":{"a":1}}`:       "of version 0",
		`{"version":1,"other":1}`: "unknown field",
		`{"version":1} x`:         "more follows",
		`{"version":1,"files":{"a":1,"b":2,"a":1}}`:        `files: "a" is there twice`,
		`{"version":1,"files":{"a":1,"\u0061":1}}`:         `"a" is there twice`,
		`{"version":1,"files":{"a":NaN}}`:                  "not a durations file",
		`{"version":1,"files":{"a":{"b":1}}}`:              "not a durations file",
		`{"version":1,"files":{"a":0}}`:                    `"a" has 0 ms`,
		`{"version":1,"files":{"":1}}`:                     `"" has 1 ms`,
		`{"version":1,"files":{"a":-5}}`:                   `"a" has -5 ms`,
		`{"version":1,"files":{"a":9223372036854775807}}`:  `"a" has 9223372036854775807 ms`,
		`{"version":1,"files":{"a":99999999999999999999}}`: "not a durations file",
		`{"version":1,"files":{"a":1.5}}`:                  "not a durations file",
	} {
		if d, err := ParseDurations([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", text, d, err)
		}
	}
}

func TestSelection(t *testing.T) {
	one := Selection([]string{"b", "a", "b"}, "")
	// printf 'a\\0b\\0' | sha256sum
	if want := "sha256:8fb20ef63ced4145fc2e983ffe597d1dcff39154c3bf21f0fa9dde6a0c50fdc9"; one != want {
		t.Error(one)
	}
	if one != Selection([]string{"a", "b"}, "") || one == Selection([]string{"ab"}, "") ||
		one == Selection([]string{"a"}, "") || one == Selection([]string{"a", "b"}, "{}") {
		t.Error("selections are mixed up")
	}
}

func FuzzParseDurations(f *testing.F) {
	f.Add([]byte(`{"version":1,"files":{"a":1,"b":2}}`), uint8(2))
	f.Add([]byte(`{"version":1,"files":{"a":0}}`), uint8(0))
	f.Add([]byte(`{"version":2}`), uint8(1))
	f.Fuzz(func(t *testing.T, text []byte, parts uint8) {
		d, err := ParseDurations(text)
		if err != nil {
			return
		}
		var paths []string
		for path := range d.ms {
			paths = append(paths, path)
		}
		seen := 0
		for i := 1; i <= int(parts); i++ {
			seen += len(Shard{i, int(parts)}.Split(paths, d))
		}
		if parts > 0 && seen != len(paths) {
			t.Errorf("%d of %d files are in a part", seen, len(paths))
		}
		var out bytes.Buffer
		if err := d.Write(&out); err != nil {
			t.Fatal(err)
		}
		again, err := ParseDurations(out.Bytes())
		if err != nil || fmt.Sprint(again.ms) != fmt.Sprint(d.ms) {
			t.Errorf("written and read: %v, %v", again, err)
		}
	})
}
