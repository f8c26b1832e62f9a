package terminal

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "",
		"plain\ttext\n":            "plain\ttext\n",
		"grün ✓":                   "grün ✓",
		"\x1b[31mred\x1b[0m":       `\x1b[31mred\x1b[0m`,
		"\x1b]0;title\x07":         `\x1b]0;title\x07`,
		"line\r\nover\rwritten":    "line\n" + `over\rwritten`,
		"from a tty\r\r\n":         "from a tty\n",
		"\x00\x7f\u009b2J\u202e":   `\x00\x7f\u009b2J\u202e`,
		"bytes \xff\xfe, \xe2\x82": `bytes \xff\xfe, \xe2\x82`,
		"a replacement \ufffd":     "a replacement \ufffd",
	} {
		if got := Escape(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestWriterEscapesAcrossWrites(t *testing.T) {
	const text = "✓ \x1b[2J\u202e\xe2\x82\r\n\r\x9b\r"
	for step := 1; step < 6; step++ {
		var out bytes.Buffer
		w := NewWriter(&out)
		for rest := []byte(text); len(rest) > 0; {
			n := min(step, len(rest))
			if written, err := w.Write(rest[:n]); written != n || err != nil {
				t.Fatal(written, err)
			}
			rest = rest[n:]
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if out.String() != Escape(text) {
			t.Errorf("in steps of %d: %q, want %q", step, &out, Escape(text))
		}
	}
}

func TestWriterHoldsNothingComplete(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out)
	if _, err := w.Write([]byte("a prompt: ")); err != nil || out.String() != "a prompt: " {
		t.Errorf("%q, %v", &out, err)
	}
}

func TestIs(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if Is(f) {
		t.Error("the null device is a terminal")
	}
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer tty.Close()
	if !Is(tty) {
		t.Error("a pseudo terminal was not taken for a terminal")
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("\x1b[31mred\x1b[0m \x1b]0;t\x07x \x1bP\x1b\\ \x1b")
	f.Add("\xff\r\n\r")
	f.Fuzz(func(t *testing.T, text string) {
		got := Escape(text)
		if strings.ContainsFunc(got, IsControl) || !utf8.ValidString(got) {
			t.Errorf("Escape(%q) = %q", text, got)
		}
		var out bytes.Buffer
		w := NewWriter(&out)
		half := len(text) / 2
		for _, part := range []string{text[:half], text[half:]} {
			if _, err := w.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil || out.String() != got {
			t.Errorf("in two writes: %q, want %q (%v)", &out, got, err)
		}
	})
}
