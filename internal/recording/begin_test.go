package recording

import (
	"io"
	"strings"
	"testing"
)

func TestBegin(t *testing.T) {
	const before, after = "QEVM…", "\x04…"
	const timer = warpTimer + "\x00\x00\x00\x00\xa5\xde\x04\xa2\x00\x00\x00\x00\xa5\xe3\x1b\xc8"
	none := warpTimer + strings.Repeat("\xff", 16)
	for name, c := range map[string]struct{ state, want string }{
		"with a timer":    {before + timer + after, before + none + after},
		"without one":     {before + after, before + after},
		"cut off":         {before + timer[:len(timer)-3], before + none[:len(none)-3]},
		"cut off earlier": {before + warpTimer, before + warpTimer},
	} {
		f, err := Begin(strings.NewReader(c.state), int64(len(c.state)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if f.Close(); err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := Begin(strings.NewReader("short"), 6); err == nil {
		t.Error("a state that ends early is no error")
	}
}
