package failure

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	sourceAround = 2        // lines shown on each side of one
	maxSource    = 16 << 20 // bytes of a file in which lines are looked for
)

// Excerpt returns a line of a file, marked, with two lines on each side. It returns "" where
// the file does not have it, or cannot be read.
func Excerpt(path string, line int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if s, err := f.Stat(); err != nil || !s.Mode().IsRegular() {
		return ""
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSource))
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	if line < 1 || line > len(lines) {
		return ""
	}
	var b strings.Builder
	for n := max(1, line-sourceAround); n <= min(len(lines), line+sourceAround); n++ {
		mark := " "
		if n == line {
			mark = ">"
		}
		row := fmt.Sprintf("%s %5d | %s", mark, n, Line(string(lines[n-1])))
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(strings.TrimRight(row, " "))
	}
	return b.String()
}
