// Package plainwords finds in texts for people what only programmers of Go understand. Tests look with it at the
// messages of every layer: a message is read by people who write tests in Lua.
//
// It does not judge style, which package stylecheck does for the sources.
package plainwords

import (
	"regexp"
	"strings"
)

// jargon is what errors of Go's libraries and its runtime say to programmers.
var jargon = regexp.MustCompile(`context (deadline exceeded|canceled)|\bEOF\b|broken pipe|i/o timeout|goroutine|` +
	`use of closed|nil pointer|%!|0xc0[0-9a-f]{8}|file already closed|invalid argument$|connection reset|` +
	`\*?(os|net|fmt|errors|strconv|json|exec|url|syscall|unix|toml|msgpack|http)\.[A-Z]\w+|strconv\.|<nil>|` +
	`short (read|write)|operation was canceled|&\{|\bmap\[|runtime error|` +
	`cannot unmarshal|invalid character '|fork/exec`)

// documented are words that look like jargon and are names of the Lua API.
var documented = strings.NewReplacer("console EOF", "", "stream EOF", "")

// Jargon returns the lines of a text in which there is such a word, each behind the word.
func Jargon(text string) (found []string) {
	for line := range strings.Lines(text) {
		line = documented.Replace(strings.TrimRight(line, "\n"))
		if word := jargon.FindString(line); word != "" {
			found = append(found, word+": "+line)
		}
	}
	return found
}
