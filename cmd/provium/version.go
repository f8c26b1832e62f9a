package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
)

// commit returns what the binary was built from.
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

// identity returns a text that differs between builds of the program: by the commit or,
// if that is unknown, by the file.
func (p *program) identity() string {
	text := version + " " + commit()
	if strings.Contains(text, "unknown") || strings.Contains(text, "modified") {
		if info, err := os.Stat(p.self); err == nil {
			text += fmt.Sprintf(" %d %d", info.Size(), info.ModTime().UnixNano())
		}
	}
	return text
}
