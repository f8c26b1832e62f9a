package value

import (
	"strings"
	"testing"
	"unicode/utf8"

	"provium/internal/lua"
)

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"plain": `"plain"`, "a\"b\\": `"a\"b\\"`, "\x00\xff\n\t\r": `"\x00\xff\n\t\r"`, "größe": `"größe"`,
		"\u2028": `"\xe2\x80\xa8"`,
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
	if got, want := Printable(`C:\x "y"`+"\x1b"), `C:\x "y"\x1b`; got != want {
		t.Errorf("Printable = %s, want %s", got, want)
	}
}

func TestClip(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "abcd": "abcd", "abcde": "abcd... (5 bytes)", "abcä": "abc... (5 bytes)",
	} {
		if got := Clip(in, 4); got != want {
			t.Errorf("Clip(%q) = %q, want %q", in, got, want)
		}
	}
	if got, want := Clip("\x80\x80\x80", 2), "... (3 bytes)"; got != want {
		t.Errorf("Clip = %q, want %q", got, want)
	}
}

func TestFormat(t *testing.T) {
	s := newState(t)
	for in, want := range map[lua.Value]string{
		nil: "nil", "a": "a", 1.0: "1.0", true: "true", int64(-3): "-3", s.NewTable(): "table",
	} {
		if got := Format(in); got != want {
			t.Errorf("Format(%v) = %s, want %s", in, got, want)
		}
	}
}

// FuzzQuote checks that Lua reads the literal as the same string, and that it is one
// printable line.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a\"b\\", "\x00\xff\n", "größe", "\u2028\x7f", "\\x41", "\ufffd"} {
		f.Add(s)
	}
	s := newState(f)
	f.Fuzz(func(t *testing.T, text string) {
		quoted := Quote(text)
		if got := eval(t, s, quoted); got != lua.Value(text) {
			t.Errorf("%q became %s, which Lua reads as %q", text, quoted, got)
		}
		for _, line := range []string{quoted, Printable(text)} {
			if !utf8.ValidString(line) || strings.ContainsAny(line, "\n\r\t\x00\x1b") {
				t.Errorf("%q became %q", text, line)
			}
		}
	})
}
