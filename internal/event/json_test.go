package event

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
)

// lines returns the samples as lines of JSON.
func lines(t testing.TB) []byte {
	t.Helper()
	var all []byte
	for _, env := range samples() {
		var err error
		if all, err = appendLine(all, env); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestBothFormatsReadTheSame(t *testing.T) {
	var frames []byte
	for _, env := range samples() {
		frames = append(frames, frame(t, env)...)
	}
	for name, stream := range map[string][]byte{"frames": frames, "lines": lines(t)} {
		r := NewReader(bytes.NewReader(stream))
		for _, want := range samples() {
			got, err := r.Decode()
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, %v\nwant %+v", name, got, err, want)
			}
		}
		if _, err := r.Decode(); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
	if _, err := NewReader(strings.NewReader("")).Decode(); err != io.EOF {
		t.Errorf("empty: %v", err)
	}
}

func TestLineKeepsKindsOfNumbers(t *testing.T) {
	meta := Meta{"float": 2.0, "int": int64(2), "big": 1e300, "nan": math.NaN(), "text": "1.5"}
	line, err := appendLine(nil, Envelope{Event: TestStarted{Name: "a\xffb", Meta: meta}})
	if err != nil {
		t.Fatal(err)
	}
	env, err := NewReader(bytes.NewReader(line)).Decode()
	if err != nil {
		t.Fatal(err)
	}
	got := env.Event.(TestStarted)
	want := Meta{"float": 2.0, "int": int64(2), "big": 1e300, "nan": "NaN", "text": "1.5"}
	if got.Name != `a\xffb` || !reflect.DeepEqual(got.Meta, want) {
		t.Errorf("%+v", got)
	}
}

func TestLineErrors(t *testing.T) {
	good := `{"ts":1,"kind":"fixture_cache_hit","payload":{"path":"x"}}` + "\n"
	for _, tc := range []struct {
		name, in string
		want     error
		text     string
	}{
		{"cut", good[:30], ErrTruncated, "30 bytes without an end"},
		{"not JSON", "{nonsense}\n", ErrMalformed, "no JSON from byte 2 on"},
		{"kind", `{"ts":1,"kind":"file_lost","payload":{}}` + "\n", ErrUnknownKind, "file_lost"},
		{"field", `{"ts":1,"kind":"fixture_cache_hit","payload":{"path":"x","y":1}}` + "\n", ErrUnknownField, "`y`"},
		{"missing", `{"ts":1,"kind":"fixture_cache_hit","payload":{}}` + "\n", ErrMalformed, "`path` is missing"},
		{"envelope", `{"ts":1}` + "\n", ErrMalformed, "is missing"},
		{"more", `{"ts":1,"x":2}` + "\n", ErrMalformed, "unknown field"},
		{"type", `{"ts":1,"kind":"fixture_cache_hit","payload":{"path":7}}` + "\n", ErrMalformed,
			"fixture_cache_hit.path"},
		{"range", `{"ts":1,"kind":"run_completed","payload":{"exit_code":-1,"duration_ns":1,"not_started":1,` +
			`"interrupted":false}}` + "\n", ErrMalformed, "exit_code"},
		{"enum", `{"ts":1,"kind":"file_completed","payload":{"path":"","status":"good","duration_ns":1,` +
			`"chunk_error":""}}` + "\n", ErrMalformed, "`good`"},
	} {
		r := NewReader(strings.NewReader(good + tc.in + good))
		if tc.want == ErrTruncated {
			r = NewReader(strings.NewReader(good + tc.in))
		}
		if _, err := r.Decode(); err != nil {
			t.Fatal(err)
		}
		_, err := r.Decode()
		var bad *DecodeError
		if !errors.As(err, &bad) || !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) ||
			bad.Offset != int64(len(good)) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if tc.want == ErrTruncated {
			continue
		}
		if _, err := r.Decode(); err != nil {
			t.Errorf("%s: the next line: %v", tc.name, err)
		}
	}
	// The last line may lack its end.
	if _, err := NewReader(strings.NewReader(strings.TrimSpace(good))).Decode(); err != nil {
		t.Error(err)
	}
}

func FuzzLines(f *testing.F) {
	for line := range bytes.Lines(lines(f)) { // one at a time, which is fast
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(append([]byte("{"), in...)))
		for {
			env, err := r.Decode()
			if err == io.EOF || errors.Is(err, ErrTooLarge) {
				return
			}
			if err != nil {
				continue
			}
			line, err := appendLine(nil, env)
			if err != nil {
				t.Fatalf("%+v: %v", env, err)
			}
			if _, err := NewReader(bytes.NewReader(line)).Decode(); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
	})
}
