package pattern

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// compile returns a Lua pattern that is well formed.
func compile(t testing.TB, text string) Pattern {
	t.Helper()
	p, err := Lua(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

// describe returns a match as text: what was found, where, and the captures.
func describe(m *Match) string {
	if m == nil {
		return "none"
	}
	text := fmt.Sprintf("%d %q", m.Start, m.Text)
	for _, c := range m.Captures {
		if c.Position > 0 {
			text += fmt.Sprintf(" @%d", c.Position)
		} else {
			text += fmt.Sprintf(" %q", c.Text)
		}
	}
	return text
}

func TestFind(t *testing.T) {
	for _, tc := range [][3]string{ // pattern, text, what is found
		{"", "abc", `0 ""`},
		{"b", "abc", `1 "b"`},
		{"session=(%x+)\n", "x session=beef session=dead\n", `15 "session=dead\n" "dead"`},
		{"%d+", "a 123 4", `2 "123"`},
		{"a-b", "aaab", `0 "aaab"`},
		{"x*", "aax", `0 ""`},
		{"colou?r", "color", `0 "color"`},
		{"()%[(.-)%]()", "a [b] c", `2 "[b]" @1 "b" @4`},
		{"%b()", "f(a(b)c) d)", `1 "(a(b)c)"`},
		{"%bxx", "axbx", `1 "xbx"`},
		{"%f[%w]%w+%f[%W]", "  word, ", `2 "word"`},
		{"(.)%1", "abccd", `2 "cc" "c"`},
		{"[^%s]+", " ab ", `1 "ab"`},
		{"[]x]+", "a]x", `1 "]x"`},
		{"[a-c-]+", "xb-cy", `1 "b-c"`},
		{"[%a_][%w_]*", "9 _a1", `2 "_a1"`},
		{"%S%u%L", "aB-", `0 "aB-"`},
		{"a.c", "a\nc", `0 "a\nc"`},
		{"%$%^", "$^", `0 "$^"`},
		{"((a)(b))", "ab", `0 "ab" "ab" "a" "b"`},
		{"a$b^", "a$b^", `0 "a$b^"`},
		{"%z%j", "z\x00j", `1 "\x00j"`},
		{"\x00", "a\x00", `1 "\x00"`},
		{"a+b", "aaac", "none"},
	} {
		m, _, err := compile(t, tc[0]).Find(t.Context(), []byte(tc[1]), 0, false)
		if got := describe(m); got != tc[2] || err != nil {
			t.Errorf("%q in %q: %s, %v, want %s", tc[0], tc[1], got, err, tc[2])
		}
	}
}

func TestMalformed(t *testing.T) {
	for text, want := range map[string]string{
		"a%":                                "malformed pattern (ends with '%')",
		"[a":                                "malformed pattern (missing ']')",
		"[]":                                "malformed pattern (missing ']')",
		"[a%]":                              "malformed pattern (missing ']')",
		"%ba":                               "malformed pattern (missing arguments to '%b')",
		"%fa":                               "missing '[' after '%f' in pattern",
		"(a":                                "unfinished capture",
		"a)":                                "invalid pattern capture",
		"%1":                                "invalid capture index %1 in pattern",
		"(%1)":                              "invalid capture index %1 in pattern",
		"%0":                                "invalid capture index %0 in pattern",
		strings.Repeat("()", 33):            "too many captures",
		strings.Repeat("a*", 201):           "pattern too complex",
		"^a":                                "`^` at the beginning has no place to stand for",
		"a$":                                "`$` at the end has no place to stand for",
		strings.Repeat("(", 33) + "a" + "]": "too many captures",
	} {
		_, err := Lua(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// TestFindInPieces searches bytes that come one by one: the match is that of the whole.
func TestFindInPieces(t *testing.T) {
	for _, p := range []Pattern{Text("login: "), compile(t, "login(: )"), compile(t, "%f[%w]l%w*:%s")} {
		b := []byte("xlogin; login login: ")
		from := 0
		for n := range b {
			m, next, err := p.Find(t.Context(), b[:n], from, false)
			if m != nil || err != nil || next < from || next > n {
				t.Fatalf("%s in %q: %s, %d, %v", p, b[:n], describe(m), next, err)
			}
			from = next
		}
		m, _, err := p.Find(t.Context(), b, from, false)
		if err != nil || m == nil || m.Start != 14 || m.End != len(b) {
			t.Errorf("%s: %s, %v", p, describe(m), err)
		}
	}
}

// TestMatchHasALimit has a search go on behind what can begin no match any more.
func TestMatchHasALimit(t *testing.T) {
	p := compile(t, "a.-b")
	b := []byte("a" + strings.Repeat("x", 2*MaxMatch) + "b")
	m, next, err := p.Find(t.Context(), b, 0, false)
	if m != nil || err != nil || next != len(b)-MaxMatch {
		t.Errorf("%s, %d, %v", describe(m), next, err)
	}
	// A match that needs what is behind b is left for later.
	p = compile(t, "%d+")
	m, next, err = p.Find(t.Context(), []byte("12"), 0, true)
	if m != nil || err != nil || next != 0 {
		t.Errorf("%s, %d, %v", describe(m), next, err)
	}
	b = []byte(strings.Repeat("1", MaxMatch+2))
	m, _, err = p.Find(t.Context(), b, 0, true)
	if err != nil || m == nil || m.End != MaxMatch {
		t.Errorf("%v", err)
	}
}

// TestSlowPattern ends with its context, and not before it has compared what little
// there is.
func TestSlowPattern(t *testing.T) {
	p := compile(t, strings.Repeat(".-", 20)+"x")
	b := []byte(strings.Repeat("a", 1000))
	why := errors.New("the limit")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	const free = 1 << 18
	_, next, err := p.find(ctx, b, 3, false, free)
	if !errors.Is(err, ErrSlow) || !errors.Is(err, why) || next != 3 {
		t.Errorf("%d, %v", next, err)
	}
	m, _, err := compile(t, "a+").Find(ctx, b, 0, false) // freeSteps are more than enough
	if err != nil || m == nil {
		t.Errorf("%v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		<-ctx.Done()
		if _, _, err := p.find(ctx, b, 0, false, free); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func FuzzLua(f *testing.F) {
	f.Add("session=(%x+)\n", []byte("session=beef\n"), 0)
	f.Add("()%b[]%f[%w](.-)%2", []byte("[[a]] bb"), 1)
	f.Add("[^]%d-a]+[%", []byte("x"), 0)
	f.Fuzz(func(t *testing.T, text string, b []byte, from int) {
		p, err := Lua(text)
		if err != nil {
			return
		}
		from = max(0, min(from, len(b)))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		m, next, err := p.Find(ctx, b, from, false)
		switch {
		case err != nil || m == nil && next >= from && next <= len(b):
		case m == nil || m.Start < from || m.End > len(b) || m.End < m.Start || m.End-m.Start > MaxMatch:
			t.Errorf("%q in %q: %s, %d", text, b, describe(m), next)
		}
	})
}
