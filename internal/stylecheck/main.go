// Command stylecheck finds what a program can see of a style: long files, functions and
// lines, and phrases that do not tell the reader what happens. It leaves the sizes of
// packages to arch_test.go.
//
// Usage: stylecheck. It checks the Go files and Markdown pages below the working
// directory, prints what it finds with a count for each check, and fails if there is
// anything.
//
// It judges no English beyond a list of phrases. Start reading at checks.
package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
)

// check is a rule about single files.
type check struct {
	name string
	find func(*file) []finding
}

// checks returns all rules about single files.
func checks() []check {
	return []check{
		{"comments of exported names start with the name", commentStarts},
		{"banned phrases in comments", commentPhrases},
		{"banned phrases in pages", pagePhrases},
		{"lines over 120 columns", longLines},
		{"lines over 120 columns in tests", longTestLines},
		{"functions over 80 lines without a reason", longFunctions},
		{"files over 600 lines", longFiles},
	}
}

// finding is a place that breaks a rule.
type finding struct {
	path string
	line int
	text string
}

func (f finding) String() string { return fmt.Sprintf("%s:%d: %s", f.path, f.line, f.text) }

func main() {
	files, err := load(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, "stylecheck:", err)
		os.Exit(2)
	}
	ok := true
	for _, c := range checks() {
		var found []finding
		for _, f := range files {
			found = append(found, c.find(f)...)
		}
		ok = report(c.name, found) && ok
	}
	if !ok {
		os.Exit(1)
	}
}

// report prints findings and their number. It reports whether there are none.
func report(name string, found []finding) bool {
	slices.SortFunc(found, func(a, b finding) int {
		return cmp.Or(strings.Compare(a.path, b.path), a.line-b.line)
	})
	for _, f := range found {
		fmt.Println(f)
	}
	if len(found) > 0 {
		fmt.Printf("style: %4d × %s\n", len(found), name)
	}
	return len(found) == 0
}
