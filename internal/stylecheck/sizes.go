package main

import (
	"fmt"
	"go/ast"
	"strings"
	"unicode/utf8"
)

// Limits of sizes.
const (
	maxColumns  = 120
	maxFunction = 80
	maxFile     = 600

	tabColumns = 4
	// reason begins the line of a function's comment that says why it is long.
	reason = "Long: "
)

// longLines finds lines that are too long, outside of tests.
func longLines(f *file) []finding {
	if f.test {
		return nil
	}
	return overlong(f)
}

// longTestLines finds lines of tests that are too long.
func longTestLines(f *file) []finding {
	if !f.test {
		return nil
	}
	return overlong(f)
}

// overlong finds lines of Go files that are too long. It skips what cannot be broken:
// strings that have line breaks themselves, and lines that are only a word, such as an
// address.
func overlong(f *file) (found []finding) {
	if f.syntax == nil {
		return nil
	}
	raw := map[int]bool{}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if s, ok := n.(*ast.BasicLit); ok && strings.Contains(s.Value, "\n") {
			for l := f.set.Position(s.Pos()).Line; l <= f.set.Position(s.End()).Line; l++ {
				raw[l] = true
			}
		}
		return true
	})
	for i, line := range f.lines {
		n := utf8.RuneCountInString(line) + (tabColumns-1)*strings.Count(line, "\t")
		if n > maxColumns && !raw[i+1] && len(strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "// "))) > 1 {
			found = append(found, finding{f.path, i + 1, fmt.Sprintf("%d columns", n)})
		}
	}
	return found
}

// longFunctions finds functions that are too long without a reason.
func longFunctions(f *file) (found []finding) {
	if f.syntax == nil || f.test {
		return nil
	}
	for _, d := range f.syntax.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		n := f.set.Position(fn.End()).Line - f.set.Position(fn.Pos()).Line + 1
		if n > maxFunction && !strings.Contains("\n"+fn.Doc.Text(), "\n"+reason) {
			found = append(found, f.at(fn.Pos(), fmt.Sprintf("%s has %d lines", fn.Name.Name, n)))
		}
	}
	return found
}

// longFiles finds Go files that are too long, outside of tests.
func longFiles(f *file) []finding {
	if f.syntax == nil || f.test || len(f.lines) <= maxFile {
		return nil
	}
	return []finding{{f.path, 1, fmt.Sprintf("%d lines", len(f.lines))}}
}
