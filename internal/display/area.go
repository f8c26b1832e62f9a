package display

import (
	"io"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// area is the lines below what is printed on a terminal. After each change the cursor is at
// its first cell, which the terminal keeps where it is when its size changes. A line that is
// too long, since the terminal has just become narrower, is cut by the terminal: if it went on
// in the next row, the way up would be too short.
type area struct {
	out   io.Writer
	lines []string // as drawn
}

// show prints text, which ends with a newline or is empty, and draws lines below it, with one
// write. redraw says that what is on the terminal is not what was drawn.
func (a *area) show(text string, lines []string, redraw bool) error {
	if text == "" && !redraw && strings.Join(a.lines, "\n") == strings.Join(lines, "\n") {
		return nil
	}
	var b strings.Builder
	if len(a.lines) > 0 || redraw {
		b.WriteString("\r" + ansi.EraseScreenBelow)
	}
	b.WriteString(text)
	if len(lines) > 0 {
		b.WriteString(ansi.ResetModeAutoWrap + strings.Join(lines, "\n") + ansi.SetModeAutoWrap)
		if len(lines) > 1 {
			b.WriteString(ansi.CursorUp(len(lines) - 1))
		}
		b.WriteByte('\r')
	}
	a.lines = lines
	if b.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}
