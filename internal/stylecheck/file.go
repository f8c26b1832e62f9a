package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// file is a Go file or a Markdown page.
type file struct {
	path   string
	lines  []string
	syntax *ast.File // nil for a page
	set    *token.FileSet
	test   bool
}

// load reads all files below root, except generated and foreign ones.
func load(root string) ([]*file, error) {
	var files []*file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata" ||
			d.Name() == "dist"):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		switch filepath.Ext(path) {
		case ".go", ".md":
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f, err := parse(path, string(text))
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		return nil
	})
	return files, err
}

// parse makes a file of its text.
func parse(path, text string) (*file, error) {
	f := &file{
		path: path, lines: strings.Split(strings.TrimSuffix(text, "\n"), "\n"),
		set: token.NewFileSet(), test: strings.HasSuffix(path, "_test.go"),
	}
	if filepath.Ext(path) != ".go" {
		return f, nil
	}
	var err error
	f.syntax, err = parser.ParseFile(f.set, path, text, parser.ParseComments)
	return f, err
}

// at returns a finding at a position of the syntax tree.
func (f *file) at(pos token.Pos, text string) finding {
	return finding{f.path, f.set.Position(pos).Line, text}
}
