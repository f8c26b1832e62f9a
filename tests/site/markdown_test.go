package site

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// text is a page of Markdown: the anchors of its headings, as GitHub names them, and its links.
type text struct {
	anchors map[string]bool
	links   []string
}

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	inlineCode   = regexp.MustCompile("(`+)[^`].*?`+")
)

func readText(t *testing.T, path string) text {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := text{anchors: map[string]bool{"": true}}
	inCode := false
	for line := range strings.Lines(string(source)) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			inCode = !inCode
		}
		if inCode {
			continue
		}
		if hashes := len(line) - len(strings.TrimLeft(line, "#")); hashes > 0 && line[hashes] == ' ' {
			name := slug(strings.TrimSpace(line[hashes:]))
			for n := 1; p.anchors[name]; n++ {
				name = fmt.Sprintf("%s-%d", slug(strings.TrimSpace(line[hashes:])), n)
			}
			p.anchors[name] = true
		}
		for _, link := range markdownLink.FindAllStringSubmatch(inlineCode.ReplaceAllString(line, "code"), -1) {
			p.links = append(p.links, link[1])
		}
	}
	return p
}

func slug(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

// TestMarkdownLinks follows the links of the pages as they are read in the tree.
func TestMarkdownLinks(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]text{}
	for _, dir := range []string{"README.md", "CHANGELOG.md", "docs", "examples"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".md") {
				texts[path] = readText(t, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for path, p := range texts {
		for _, link := range p.links {
			if strings.Contains(link, "://") {
				continue
			}
			seen++
			file, anchor, _ := strings.Cut(link, "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if other, isText := texts[target]; isText {
				if !other.anchors[anchor] {
					t.Errorf("%s: no heading is %s", path, link)
				}
			} else if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s leads nowhere", path, link)
			}
		}
	}
	if len(texts) < 40 || seen < 300 {
		t.Errorf("%d pages, %d links", len(texts), seen)
	}
}
