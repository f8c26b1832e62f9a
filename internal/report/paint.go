package report

import (
	"strings"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// Attributes of texts, as the terminal library names them.
var (
	red    = ansi.Style{}.ForegroundColor(ansi.Red)
	green  = ansi.Style{}.ForegroundColor(ansi.Green)
	yellow = ansi.Style{}.ForegroundColor(ansi.Yellow)
	bold   = ansi.Style{}.Bold()
	dim    = ansi.Style{}.Faint()
	// What two lines do not share.
	redPart   = ansi.Style{}.ForegroundColor(ansi.Red).Reverse(true)
	greenPart = ansi.Style{}.ForegroundColor(ansi.Green).Reverse(true)
)

// painter colours texts, if colours are on.
type painter struct{ on bool }

func (p painter) paint(style ansi.Style, s string) string {
	if !p.on || s == "" {
		return s
	}
	return style.Styled(s)
}

// failure colours the lines of a failure's text: the message stands out, in differences what
// is on one side only, the line of Lua, and the command line that repeats it.
func (p painter) failure(lines []string) []string {
	if !p.on {
		return lines
	}
	out := make([]string, len(lines))
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		switch rest := strings.TrimLeft(l, " "); {
		case i == 0:
			out[i] = p.paint(bold, l)
		case strings.HasPrefix(rest, "- "):
			if next := i + 1; isSingle(lines, i) {
				out[i], out[next] = p.pair(l, lines[next])
				i = next
				break
			}
			out[i] = p.paint(red, l)
		case strings.HasPrefix(rest, "+ "):
			out[i] = p.paint(green, l)
		case strings.HasPrefix(l, "> ") && strings.Contains(l, " | "):
			out[i] = p.paint(bold, l)
		case strings.HasSuffix(l, ":") && !strings.HasPrefix(l, " "), strings.HasPrefix(l, "repeat with: "):
			out[i] = p.paint(dim, l)
		default:
			out[i] = l
		}
	}
	return out
}

// isSingle reports whether line i of a difference is one that the next line replaces.
func isSingle(lines []string, i int) bool {
	is := func(i int, mark string) bool {
		return i >= 0 && i < len(lines) && strings.HasPrefix(strings.TrimLeft(lines[i], " "), mark)
	}
	return is(i+1, "+ ") && !is(i-1, "- ") && !is(i+2, "+ ")
}

// pair colours a line and the one that replaces it, and in both what they do not share.
func (p painter) pair(old, new string) (string, string) {
	const mark = 2 // "- ", "+ "
	at := len(old) - len(strings.TrimLeft(old, " ")) + mark
	if len(new)-len(strings.TrimLeft(new, " "))+mark != at {
		return p.paint(red, old), p.paint(green, new)
	}
	a, b := old[at:], new[at:]
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	for head > 0 && (head < len(a) && !utf8.RuneStart(a[head]) || head < len(b) && !utf8.RuneStart(b[head])) {
		head--
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	for tail > 0 && !utf8.RuneStart(a[len(a)-tail]) {
		tail--
	}
	if head+tail < 3 { // they have nothing to do with each other
		return p.paint(red, old), p.paint(green, new)
	}
	part := func(color, strong ansi.Style, line, text string) string {
		return p.paint(color, line[:at]+text[:head]) + p.paint(strong, text[head:len(text)-tail]) +
			p.paint(color, text[len(text)-tail:])
	}
	return part(red, redPart, old, a), part(green, greenPart, new, b)
}
