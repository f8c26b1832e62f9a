package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// phrases are words that are not used, with what to write instead.
var phrases = []struct {
	words   *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`\btells whether\b`), "reports whether"},
	{regexp.MustCompile(`\bHeld: `), "The caller must hold ..."},
	{regexp.MustCompile(`\b(is|are) none\b`), "there is no ..., is not a ..."},
	{regexp.MustCompile(`\btroubles?\b`), "error, failure"},
	{regexp.MustCompile(`\b(is|are) (only )?told of\b`), "the report has ..."},
	{regexp.MustCompile(`\bof one's own\b`), "a separate ..."},
	{regexp.MustCompile(`\btells of\b`), "reports"},
	{regexp.MustCompile(`\bkindly\b`), "the signal, and the time"},
	{regexp.MustCompile(`\bgives? back\b`), "returns, releases"},
}

// absent is what may be said of what is not there.
var absent = regexp.MustCompile(`\b[Tt]here (is|are) none\b`)

// givesStart is the start of a comment that uses "gives" for "returns", unless it is
// "gives up" or "gives way".
var givesStart = regexp.MustCompile(`^\S+ gives ([^uw]|u[^p]|w[^a])`)

// commentStarts finds comments of exported names that do not start with the name. An
// article may come before it.
func commentStarts(f *file) (found []finding) {
	if f.syntax == nil || f.test || f.syntax.Name.Name == "main" {
		return nil
	}
	need := func(doc *ast.CommentGroup, names ...*ast.Ident) {
		text := doc.Text()
		if text == "" || !slices.ContainsFunc(names, (*ast.Ident).IsExported) {
			return
		}
		for _, article := range []string{"A ", "An ", "The "} {
			text = strings.TrimPrefix(text, article)
		}
		for _, n := range names {
			rest, ok := strings.CutPrefix(text, n.Name)
			if ok && (rest == "" || !isWord(rest[0])) {
				return
			}
		}
		found = append(found, f.at(doc.Pos(), fmt.Sprintf("the comment of %s does not start with its name",
			names[0].Name)))
	}
	for _, d := range f.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			need(d.Doc, d.Name)
		case *ast.GenDecl:
			for _, s := range d.Specs {
				doc := (*ast.CommentGroup)(nil)
				if !d.Lparen.IsValid() { // else it is the comment of the whole group
					doc = d.Doc
				}
				switch s := s.(type) {
				case *ast.TypeSpec:
					need(or(s.Doc, doc), s.Name)
				case *ast.ValueSpec:
					need(or(s.Doc, doc), s.Names...)
				}
			}
		}
	}
	return found
}

// or returns the first comment that is there.
func or(a, b *ast.CommentGroup) *ast.CommentGroup {
	if a != nil {
		return a
	}
	return b
}

// isWord reports whether a name can go on with c.
func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// commentPhrases finds banned phrases in the comments of a Go file.
func commentPhrases(f *file) (found []finding) {
	if f.syntax == nil {
		return nil
	}
	docs := map[*ast.CommentGroup]bool{}
	for _, d := range f.syntax.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Doc != nil {
			docs[fn.Doc] = true
		}
	}
	for _, g := range f.syntax.Comments {
		text := strings.ReplaceAll(g.Text(), "\n", " ")
		found = append(found, f.banned(g.Pos(), text)...)
		if docs[g] && givesStart.MatchString(text) {
			found = append(found, f.at(g.Pos(), "`gives`: write `returns`"))
		}
	}
	return found
}

// banned finds banned phrases in a text.
func (f *file) banned(pos token.Pos, text string) (found []finding) {
	for _, p := range phrases {
		if w := p.words.FindString(absent.ReplaceAllString(text, "")); w != "" {
			found = append(found, f.at(pos, fmt.Sprintf("`%s`: write `%s`", w, p.instead)))
		}
	}
	return found
}

// pagePhrases finds banned phrases in a Markdown page.
func pagePhrases(f *file) (found []finding) {
	if f.syntax != nil {
		return nil
	}
	for i, line := range f.lines {
		for _, p := range phrases {
			if w := p.words.FindString(absent.ReplaceAllString(line, "")); w != "" {
				found = append(found, finding{f.path, i + 1, fmt.Sprintf("`%s`: write `%s`", w, p.instead)})
			}
		}
	}
	return found
}
