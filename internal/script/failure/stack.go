package failure

import (
	"fmt"
	"strings"
)

// Hidden are the prefixes of frames that the author of a test does not know.
type Hidden []string

// Stack returns a traceback of Lua with what its author can know: no functions of C or of
// Provium itself. Of frames in one helper module that follow each other the innermost is left.
// It returns "" if nothing remains but the line at, which the message names.
func Stack(text, at string, hidden Hidden) string {
	headline, rest, _ := strings.Cut(text, "\n")
	kept := []string{headline}
	module, more := "", 0 // the helper whose frames are left out, and how many
	flush := func() {
		if more > 0 {
			kept = append(kept, fmt.Sprintf("\t... %d more in %s", more, module))
		}
		more = 0
	}
	frames, last := 0, ""
	for line := range strings.Lines(rest) {
		frame := strings.TrimSpace(line)
		if frame == "" || strings.HasPrefix(frame, "[C]:") || strings.HasPrefix(frame, "(...tail calls...)") ||
			hidden.has(frame) {
			continue
		}
		if before, _, ok := strings.Cut(last, ": "); ok && more == 0 && strings.HasPrefix(frame, before+": ") {
			continue // functions within one another on one line
		}
		file := helper(frame)
		if file != "" && file == module {
			more++
			continue
		}
		flush()
		module = file
		kept = append(kept, strings.TrimRight(line, "\n"))
		frames, last = frames+1, frame
	}
	flush()
	if frames == 0 || frames == 1 && len(kept) == 2 && at != "" && strings.HasPrefix(last, at+":") {
		return ""
	}
	return strings.Join(kept, "\n")
}

func (h Hidden) has(frame string) bool {
	for _, prefix := range h {
		if strings.HasPrefix(frame, prefix) {
			return true
		}
	}
	return false
}

// helper returns the file of a frame that is neither in a test file nor in that of a fixture,
// "" for other frames.
func helper(frame string) string {
	file, _, ok := strings.Cut(frame, ":")
	if !ok || !strings.HasSuffix(file, ".lua") || strings.HasSuffix(file, ".test.lua") ||
		strings.HasSuffix(file, ".fixture.lua") {
		return ""
	}
	return file
}
