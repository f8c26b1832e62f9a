package report

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"provium/internal/event"
)

// TestQuote has a shell read the words.
func TestQuote(t *testing.T) {
	for text, want := range map[string]string{
		"tests/a.test.lua": "tests/a.test.lua", "a b": "'a b'", "it's": `'it'\''s'`, "": "''",
		"$HOME `id` \\": "'$HOME `id` \\'", "two\nlines '\\": `$'two\nlines \'\\'`, "\x1b[2Jgrün": `$'\x1b[2Jgrün'`,
	} {
		got := Quote(text)
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
		out, err := exec.Command("bash", "-c", "printf %s "+got).Output()
		if err != nil || string(out) != text {
			t.Errorf("%s is %q to a shell, %v", got, out, err)
		}
	}
}

func TestRepeat(t *testing.T) {
	for _, c := range []struct {
		how          Repeat
		reason, test string
		folder       string
		want         string
	}{
		{Repeat{}, "why", "t", "/d", "why"},
		{Repeat{Path: "a.test.lua"}, "why", "is up", "", "why\nrepeat with: provium 'a.test.lua::is up'"},
		{Repeat{Path: "a.test.lua", Flags: "--seed 7"}, "why\n", "", "",
			"why\nrepeat with: provium a.test.lua --seed 7"},
		{Repeat{Path: "a.test.lua"}, "", "", "/d/e", "repeat with: provium a.test.lua\nartifacts: /d/e"},
	} {
		if got := c.how.After(c.reason, c.test, c.folder); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestCollectorKeepsEvidence puts what is printed and attached to the test it belongs to, and
// bounds it.
func TestCollectorKeepsEvidence(t *testing.T) {
	c := NewCollector("a")
	c.Add(event.TestOutput{Path: "a", Text: "loading\n"})
	c.Add(event.TestOutput{Path: "a", Name: "one", Text: "1\n"})
	c.Add(event.TestOutput{Path: "a", Name: "one", Text: "2\n"})
	c.Add(event.TestAttachment{Path: "a", Name: "one", Attachment: "x", Size: 3, Data: []byte("abc")})
	c.Add(event.TestPassed{Path: "a", Name: "one"})
	c.Add(event.TestAttachment{Path: "a", Name: "two", Attachment: "y", Size: maxAttachments,
		Data: make([]byte, maxAttachments)})
	for range 100 {
		c.Add(event.TestOutput{Path: "a", Name: "two", Text: strings.Repeat("x", 1023) + "\n"})
	}
	c.Add(event.TestFailed{Path: "a", Name: "two"})
	r := c.Result(FileFailed, "", 0)
	if want := []Attachment{{Name: "x", Size: 3, Data: []byte("abc")}}; r.Output != "loading\n" ||
		r.Tests[0].Output != "1\n2\n" || !reflect.DeepEqual(r.Tests[0].Attachments, want) {
		t.Errorf("%+v", r)
	}
	two := r.Tests[1]
	if len(two.Output) > maxOutput+10 || !strings.HasPrefix(two.Output, "[...]\nxxx") ||
		two.Attachments[0].Data != nil || two.Attachments[0].Size != maxAttachments {
		t.Errorf("%d bytes, %.20q, %d", len(two.Output), two.Output, two.Attachments[0].Size)
	}
}

// TestCommonReports has kernels report the same in several tests.
func TestCommonReports(t *testing.T) {
	c := NewCollector("a.test.lua")
	report := func(title string) { c.Add(event.KernelReport{Title: title}) }
	report("BUG: before the tests")
	for i, titles := range [][]string{{"WARNING in f", "WARNING in f", "BUG: g\x1b[2J"}, {"WARNING in f"},
		{"BUG: g\x1b[2J", "WARNING in f", "KASAN: use-after-free in h"}, nil} {
		name := fmt.Sprint("test ", i)
		c.Add(event.TestStarted{Name: name})
		for _, title := range titles {
			report(title)
		}
		c.Add(event.TestFailed{Name: name, Reason: "it failed"})
	}
	c.Add(event.TestStarted{Name: "passes"})
	report("KASAN: use-after-free in h") // it was expected
	c.Add(event.TestPassed{Name: "passes"})

	var out bytes.Buffer
	term := NewTerminal(TerminalConfig{Out: &out, Verbosity: Quiet})
	if err := errors.Join(term.File(c.Result(FileFailed, "", 0)), term.End("the end", true)); err != nil {
		t.Fatal(err)
	}
	const want = `the kernel reported in several of them:
    WARNING in f (3 tests)
    BUG: g\x1b[2J (2 tests)

the end
`
	if _, got, _ := strings.Cut(out.String(), "test 3\n"); !strings.HasSuffix(got, want) {
		t.Errorf("got %q", out.String())
	}
}
