package script

import (
	"strings"
	"testing"
)

func TestDiffStrings(t *testing.T) {
	for _, c := range []struct{ name, a, b, want string }{
		{"short", "abc", "abd", ""},
		{"lines", "one\ntwo\nthree", "one\n2\nthree", "  one\n- two\n+ 2\n  three"},
		{"added", "a\n", "a\nb\n", "  a\n+ b\n  "},
		{"far equal lines are left out", strings.Repeat("x\n", 10) + "a", strings.Repeat("x\n", 10) + "b",
			"  ... (7 equal lines)\n  x\n  x\n  x\n- a\n+ b"},
		{"bytes", strings.Repeat("x", 100) + "a", strings.Repeat("x", 100) + "b",
			"first difference at byte 101 (101 and 101 bytes):\n" +
				"- ...\"" + strings.Repeat("x", 30) + "a\"\n+ ...\"" + strings.Repeat("x", 30) + "b\""},
	} {
		if got := diffStrings(c.a, c.b); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

func FuzzDiffLines(f *testing.F) {
	f.Add("a\nb", "a\nc")
	f.Add("", "\n\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		left, right := strings.Split(a, "\n"), strings.Split(b, "\n")
		if len(left) > 50 || len(right) > 50 {
			return
		}
		var gotLeft, gotRight []string
		for _, e := range editScript(left, right) {
			if e.op != '+' {
				gotLeft = append(gotLeft, e.text)
			}
			if e.op != '-' {
				gotRight = append(gotRight, e.text)
			}
		}
		if strings.Join(gotLeft, "\n") != a || strings.Join(gotRight, "\n") != b {
			t.Errorf("script of %q and %q does not lead from one to the other", a, b)
		}
		diffStrings(a, b)
	})
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"plain": `"plain"`, "a\"b\\": `"a\"b\\"`, "\x00\xff\n": `"\x00\xff\n"`, "größe": `"größe"`,
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s, want %s", in, got, want)
		}
	}
	if got := printable(`C:\x "y"` + "\x1b"); got != `C:\x "y"\x1b` {
		t.Errorf("printable = %s", got)
	}
}
