package terminal

import (
	"fmt"
	"regexp"
	"strings"
)

// minRepeated is how many lines must be the same to be left out.
const minRepeated = 3

// namedFrame is a frame of a kernel's stack with the line of source that was put behind it.
var namedFrame = regexp.MustCompile(`(\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[^\]]*\])?) \([^()]+:[0-9]+\)`)

// WithoutRepeated returns a text without lines that follow each other in what is shown above
// it, too, be it with lines of source behind frames. What stands in their place says how many they
// are.
func WithoutRepeated(text, above string) string {
	shown := strings.Split(namedFrame.ReplaceAllString(strings.TrimRight(above, "\n"), "$1"), "\n")
	lines := strings.SplitAfter(text, "\n")
	var b strings.Builder
	for i := 0; i < len(lines); {
		n := 0
		for at := range shown {
			n = max(n, common(lines[i:], shown[at:]))
		}
		if n < minRepeated {
			b.WriteString(lines[i])
			i++
			continue
		}
		fmt.Fprintf(&b, "[%d lines of the report above]\n", n)
		i += n
	}
	return b.String()
}

// common returns how many lines two texts have in common at their beginnings. A blank one is
// the end.
func common(a, b []string) (n int) {
	for n < len(a) && n < len(b) {
		line := strings.TrimRight(a[n], "\r\n")
		if line == "" || line != strings.TrimRight(b[n], "\r") {
			break
		}
		n++
	}
	return n
}
