// Command stylecheck finds what a program can see of a style: sizes, long lines, and
// phrases that do not tell the reader what happens.
//
// Usage: stylecheck [PATH...]. It checks the Go files and Markdown pages below the
// working directory, prints a count for each check, and the findings of the checks that
// are fatal. With paths it prints all findings below them.
//
// It judges no English beyond a list of phrases. Start reading at checks.
package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// check is one rule.
type check struct {
	name string
	// fatal makes findings an error. It is set once the whole tree is clean.
	fatal bool
	find  func(*file) []finding
}

// checks are all rules. To make one fatal, set its second field.
var checks = []check{
	{"comments of exported names start with the name", true, commentStarts},
	{"banned phrases in comments", true, commentPhrases},
	{"banned phrases in pages", true, pagePhrases},
	{"lines over 120 columns", true, longLines},
	{"lines over 120 columns in tests", true, longTestLines},
	{"functions over 80 lines without a reason", true, longFunctions},
	{"files over 600 lines", true, longFiles},
}

// packageCheck is the name of the rule about whole directories, and packageFatal is as
// check.fatal.
const (
	packageCheck = "packages over 25 files or 4500 lines"
	packageFatal = true
)

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
	if !report(files, os.Args[1:]) {
		os.Exit(1)
	}
}

// report prints counts, and findings below paths or of fatal checks. It reports whether
// no fatal check has found anything.
func report(files []*file, paths []string) bool {
	ok := true
	print := func(name string, fatal bool, found []finding) {
		slices.SortFunc(found, func(a, b finding) int {
			return cmp.Or(strings.Compare(a.path, b.path), a.line-b.line)
		})
		for _, f := range found {
			if fatal || below(f.path, paths) {
				fmt.Println(f)
			}
		}
		if len(found) > 0 {
			ok = ok && !fatal
			fmt.Printf("style: %4d × %s\n", len(found), name)
		}
	}
	for _, c := range checks {
		var found []finding
		for _, f := range files {
			found = append(found, c.find(f)...)
		}
		print(c.name, c.fatal, found)
	}
	print(packageCheck, packageFatal, largePackages(files))
	return ok
}

// below reports whether path is one of paths or in one of them.
func below(path string, paths []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		rel, err := filepath.Rel(p, path)
		return err == nil && filepath.IsLocal(rel)
	})
}
