package textdiff

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestStrings(t *testing.T) {
	x := strings.Repeat("x", 100)
	for _, c := range []struct{ name, a, b, want string }{
		{"short", "abc", "abd", ""},
		{"equal", x, x, ""},
		{"equal lines", "a\nb", "a\nb", ""},
		{"lines", "one\ntwo\nthree", "one\n2\nthree", "  one\n- two\n+ 2\n  three"},
		{"one has lines", "one", "one\ntwo", "  one\n+ two"},
		{"added", "a\n", "a\nb\n", "  a\n+ b\n  "},
		{"empty", "", "\n", "  \n+ "},
		{"bytes", x + "a", x + "b", "first difference at byte 101 (101 and 101 bytes):\n" +
			"- ...\"" + x[:30] + "a\"\n+ ...\"" + x[:30] + "b\""},
		{"bytes in front", "a" + x, "b" + x, "first difference at byte 1 (101 and 101 bytes):\n" +
			"- \"a" + x[:29] + "\"...\n+ \"b" + x[:29] + "\"..."},
		{"prefix", x, x + "b", "first difference at byte 101 (100 and 101 bytes):\n" +
			"- ...\"" + x[:30] + "\"\n+ ...\"" + x[:30] + "b\""},
	} {
		if got := Strings(c.a, c.b); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

func TestLines(t *testing.T) {
	x := strings.Repeat("x\n", 10)
	for _, c := range []struct{ name, a, b, want string }{
		{"equal lines before", x + "a", x + "b", "  ... (7 equal lines)\n  x\n  x\n  x\n- a\n+ b"},
		{"equal lines after", "a\n" + x, "b\n" + x, "- a\n+ b\n  x\n  x\n  x\n  ... (8 equal lines)"},
		{"equal lines between", "a\n" + numbered("x", 0, 10) + "c", "b\n" + numbered("x", 0, 10) + "d",
			"- a\n+ b\n  x 0\n  x 1\n  x 2\n  ... (4 equal lines)\n  x 7\n  x 8\n  x 9\n- c\n+ d"},
		{"lines which look like a diff", "@@ -9,9 +9,9 @@\n--- a", "@@ -1,1 +1,1 @@\n--- a",
			"- @@ -9,9 +9,9 @@\n+ @@ -1,1 +1,1 @@\n  --- a"},
		{"control characters", "\x1b[1m\n\xff", "\x1b[2m\n\xff", "- \\x1b[1m\n+ \\x1b[2m\n  \\xff"},
		{"a long line", strings.Repeat("y", 500) + "\n", "z\n",
			"- " + strings.Repeat("y", 400) + "... (500 bytes)\n+ z\n  "},
	} {
		if got := Lines(c.a, c.b); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// numbered returns lines such as "a 1", one for each number.
func numbered(word string, from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "%s %d\n", word, i)
	}
	return b.String()
}

func TestLinesLimit(t *testing.T) {
	lines := strings.Split(Lines(numbered("a", 0, 150), numbered("b", 0, 150)), "\n")
	if len(lines) != 201 || lines[0] != "- a 0" || lines[150] != "+ b 0" || lines[200] != "  ... (101 more lines)" {
		t.Errorf("%d lines, from %q to %q", len(lines), lines[0], lines[len(lines)-1])
	}
	// The output is full exactly when the differences end, and equal lines are left.
	tail := numbered("t", 0, 50)
	lines = strings.Split(Lines(numbered("a", 0, 197)+tail, tail), "\n")
	if len(lines) != 201 || lines[200] != "  ... (48 more lines)" {
		t.Errorf("%d lines, to %q", len(lines), lines[len(lines)-1])
	}
	lines = strings.Split(Lines(numbered("a", 0, 200)+"x", "x"), "\n")
	if len(lines) != 201 || lines[200] != "  ... (1 more lines)" {
		t.Errorf("%d lines, to %q", len(lines), lines[len(lines)-1])
	}
}

// TestLinesInLongTexts finds one changed line among many, which the output limit of the
// diff must not hide.
func TestLinesInLongTexts(t *testing.T) {
	before, after := numbered("line", 0, 50_000), numbered("line", 50_001, 100_000)
	want := "  ... (49997 equal lines)\n  line 49997\n  line 49998\n  line 49999\n- old\n+ new\n" +
		"  line 50001\n  line 50002\n  line 50003\n  ... (49997 equal lines)"
	if got := Lines(before+"old\n"+after, before+"new\n"+after); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// FuzzLines checks that the hunks lead from one text to the other, and the limit.
func FuzzLines(f *testing.F) {
	f.Add("a\nb", "a\nc")
	f.Add("", "\n\n")
	f.Add("@@ -1,1 +1,1 @@\n", "-\n+\n \n")
	f.Add(numbered("x", 0, 20), numbered("x", 3, 21)+"\nx 3")
	f.Fuzz(func(t *testing.T, a, b string) {
		left := strings.Split(a, "\n")
		var gotLeft, gotRight []string
		at := 0
		for _, h := range compare(a, b) {
			gotLeft, gotRight = append(gotLeft, left[at:h.start]...), append(gotRight, left[at:h.start]...)
			at = h.start
			for _, e := range h.edits {
				if e.op != '+' {
					gotLeft = append(gotLeft, e.text)
					at++
				}
				if e.op != '-' {
					gotRight = append(gotRight, e.text)
				}
			}
		}
		gotLeft, gotRight = append(gotLeft, left[at:]...), append(gotRight, left[at:]...)
		if !slices.Equal(gotLeft, left) || strings.Join(gotRight, "\n") != b {
			t.Errorf("the diff of %q and %q does not lead from one to the other", a, b)
		}
		text := Lines(a, b)
		if (text == "") != (a == b) {
			t.Errorf("Lines(%q, %q) = %q", a, b, text)
		}
		if n := strings.Count(text, "\n"); n > maxOutput {
			t.Errorf("Lines(%q, %q) has %d newlines", a, b, n)
		}
	})
}

// BenchmarkLines compares texts of 100,000 lines.
func BenchmarkLines(b *testing.B) {
	base := numbered("line", 0, 100_000)
	for name, other := range map[string]string{
		"one change":  strings.Replace(base, "line 50000\n", "new\n", 1),
		"every tenth": strings.ReplaceAll(base, "1\n", "x\n"),
		"all":         numbered("other", 0, 100_000),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Lines(base, other)
			}
		})
	}
}
