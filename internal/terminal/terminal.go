// Package terminal shows texts of others on a terminal without letting them act on
// it: what a terminal would obey appears as the escape that a programmer would write
// for it.
//
// It knows neither where texts come from nor how reports look. Start reading with
// Escape; Writer is the same for what comes in pieces.
package terminal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Is reports whether f is a terminal.
func Is(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Escape returns text with its control characters as escapes: \x1b for ESC, \r, \u202e.
// Newlines and tabs stay, and carriage returns before a newline are left out. Bytes
// which are not UTF-8 become \x and two digits.
func Escape(text string) string {
	if strings.IndexFunc(text, isSpecial) < 0 {
		return text
	}
	out, rest := escape(nil, []byte(text), true)
	return string(append(out, rest...))
}

// isSpecial reports whether a rune may not be shown as it is.
func isSpecial(r rune) bool { return IsControl(r) || r == utf8.RuneError }

// IsControl reports whether terminals obey a rune instead of showing it. That includes
// C1, and the characters that change the direction of text.
func IsControl(r rune) bool {
	return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 ||
		r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// maxReturns is how many carriage returns are held back for a newline after them.
const maxReturns = 64

// escape appends the escaped form of text to out. Unless text is at its end, rest is
// what only its continuation decides about: the begin of a rune, or a carriage return.
func escape(out, text []byte, end bool) (_, rest []byte) {
	for len(text) > 0 {
		if text[0] == '\r' {
			after := bytes.TrimLeft(text, "\r")
			returns := len(text) - len(after)
			switch {
			case len(after) == 0 && !end && returns < maxReturns:
				return out, text
			case len(after) == 0 || after[0] != '\n':
				out = append(out, strings.Repeat(`\r`, returns)...)
			}
			text = after
			continue
		}
		if !end && !utf8.FullRune(text) {
			return out, text
		}
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			out = fmt.Appendf(out, `\x%02x`, text[0])
		case IsControl(r) && r < 0x80:
			out = fmt.Appendf(out, `\x%02x`, r)
		case IsControl(r):
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return out, nil
}

// Guard returns what another process may write to in place of stdout and stderr, which
// are those where they are files and no terminals, and a Writer where they are not. flush
// must be called when nothing more is written.
func Guard(stdout, stderr io.Writer) (out, errOut io.Writer, flush func() error) {
	var writers []*Writer
	guarded := func(to io.Writer) io.Writer {
		if f, ok := to.(*os.File); ok && !Is(f) {
			return f
		}
		w := NewWriter(to)
		writers = append(writers, w)
		return w
	}
	out = guarded(stdout)
	if len(writers) == 1 && isSame(stdout, stderr) {
		errOut = out // so that what is written to both comes in order
	} else {
		errOut = guarded(stderr)
	}
	return out, errOut, func() error {
		var errs []error
		for _, w := range writers {
			errs = append(errs, w.Flush())
		}
		return errors.Join(errs...)
	}
}

func isSame(a, b io.Writer) bool {
	one, ok := a.(*os.File)
	other, also := b.(*os.File)
	if !ok || !also {
		return a == b
	}
	x, err := one.Stat()
	if err != nil {
		return false
	}
	y, err := other.Stat()
	return err == nil && os.SameFile(x, y)
}

// Writer writes texts in their escaped form to another writer. It is safe for
// concurrent use.
type Writer struct {
	mu   sync.Mutex
	to   io.Writer
	held []byte // of what was written, see escape
}

// NewWriter returns a Writer to another one.
func NewWriter(to io.Writer) *Writer { return &Writer{to: to} }

// Write implements [io.Writer]. The begin of a rune waits for the next Write, or Flush.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out, rest := escape(nil, append(w.held, p...), false)
	w.held = append([]byte(nil), rest...)
	if len(out) > 0 {
		if _, err := w.to.Write(out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Flush writes what was held back.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	out, _ := escape(nil, w.held, true)
	w.held = nil
	if len(out) == 0 {
		return nil
	}
	_, err := w.to.Write(out)
	return err
}

// EscapeJSON returns a text of JSON with the characters that a terminal obeys as \u escapes.
// It means the same: they can only be in strings, where JSON allows both.
func EscapeJSON(text []byte) []byte {
	if bytes.IndexFunc(text, needsEscape) < 0 {
		return text
	}
	out := make([]byte, 0, len(text)+64)
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if needsEscape(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return out
}

// needsEscape reports whether JSON has r as it is and terminals obey it.
func needsEscape(r rune) bool { return r >= 0x7f && IsControl(r) }
