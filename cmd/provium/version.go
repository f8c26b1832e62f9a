package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
)

// commit names what the binary was built from.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown commit"
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = ", modified"
		}
	}
	if revision == "" {
		return "unknown commit"
	}
	return revision + dirty
}

// identity tells one build of the program from another. Where the commit does
// not, the file does.
func (p *program) identity() string {
	text := version + " " + commit()
	if strings.Contains(text, "unknown") || strings.Contains(text, "modified") {
		if info, err := os.Stat(p.self); err == nil {
			text += fmt.Sprintf(" %d %d", info.Size(), info.ModTime().UnixNano())
		}
	}
	return text
}
