package report

import (
	"fmt"
	"strings"
)

// Repeat is a command line that runs one test, or one file, like the run that it failed in.
type Repeat struct {
	Path  string // of the file, as it is given to provium
	Flags string // for a shell; "" for none
}

// Line returns the command line for a test, or with "" for the file.
func (r Repeat) Line(test string) string {
	target := r.Path
	if test != "" {
		target += "::" + test
	}
	line := "provium " + Quote(target)
	if r.Flags != "" {
		line += " " + r.Flags
	}
	return line
}

// After returns the reason of a failure with the command line below it, and with the folder that has its
// evidence, if there is one.
func (r Repeat) After(reason, test, folder string) string {
	if r.Path == "" {
		return reason
	}
	if reason != "" && !strings.HasSuffix(reason, "\n") {
		reason += "\n"
	}
	reason += "repeat with: " + r.Line(test)
	if folder != "" {
		reason += "\nartifacts: " + folder
	}
	return reason
}

// Quote returns a text as one word of a shell.
func Quote(text string) string {
	const plain = "_./:=@%+,-"
	isPlain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(plain, r)
	}
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	switch {
	case text != "" && strings.IndexFunc(text, func(r rune) bool { return !isPlain(r) }) < 0:
		return text
	case strings.IndexFunc(text, isControl) < 0:
		return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for _, c := range []byte(text) {
		switch {
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + "'"
}
