package failure

import (
	"bytes"
	"fmt"
	"strings"

	"provium/internal/script/value"
)

const (
	blockHead  = 15   // lines shown of the beginning of an output
	blockTail  = 25   // lines shown of its end, where failures speak
	blockLine  = 400  // bytes shown of a line
	blockBytes = 4096 // bytes shown of an output without newlines, and of either end in all
)

// Block shows an output under a title: a short one whole, of a long one the beginning and the
// end. Control characters are escaped. It returns "" for an empty output.
func Block(title string, output []byte) string {
	if len(output) == 0 {
		return ""
	}
	lines := count(output)
	head, tail := ends(output)
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s):", title, size(len(output), lines))
	writeLines(&b, head)
	if left := lines - len(head) - len(tail); len(tail) > 0 && left > 0 {
		fmt.Fprintf(&b, "\n  [%d lines left out]", left)
	}
	writeLines(&b, tail)
	return b.String()
}

// count returns the number of lines.
func count(output []byte) int {
	n := bytes.Count(output, []byte("\n"))
	if output[len(output)-1] != '\n' {
		n++
	}
	return n
}

// ends returns the lines at the beginning of an output and those at its end; all of a short one
// are at the beginning.
func ends(output []byte) (head, tail []string) {
	text := strings.TrimSuffix(string(output), "\n")
	if strings.Count(text, "\n") < blockHead+blockTail && len(text) <= 2*blockBytes {
		return strings.Split(text, "\n"), nil
	}
	rest, taken := text, 0
	for len(head) < blockHead && taken < blockBytes {
		line, after, more := strings.Cut(rest, "\n")
		if !more {
			return append(head, line), nil
		}
		head, rest = append(head, line), after
		taken += min(len(line), blockLine)
	}
	for taken = 0; len(tail) < blockTail && taken < blockBytes; {
		at := strings.LastIndexByte(rest, '\n')
		tail = append(tail, rest[at+1:])
		taken += min(len(rest)-at, blockLine)
		if at < 0 {
			break
		}
		rest = rest[:at]
	}
	for i, j := 0, len(tail)-1; i < j; i, j = i+1, j-1 {
		tail[i], tail[j] = tail[j], tail[i]
	}
	return head, tail
}

func writeLines(b *strings.Builder, lines []string) {
	for _, line := range lines {
		b.WriteString(strings.TrimRight("\n  | "+Line(line), " "))
	}
}

// Line returns a line with control characters escaped, but for tabs. Of a long one the end is
// left out.
func Line(line string) string {
	parts := strings.Split(value.Clip(strings.TrimSuffix(line, "\r"), blockLine), "\t")
	for i, part := range parts {
		parts[i] = value.Printable(part)
	}
	return strings.Join(parts, "\t")
}

func size(bytes, lines int) string {
	text := fmt.Sprintf("%d bytes", bytes)
	if bytes == 1 {
		text = "1 byte"
	}
	if lines > 1 {
		text += fmt.Sprintf(", %d lines", lines)
	}
	return text
}
