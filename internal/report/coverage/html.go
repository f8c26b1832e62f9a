package coverage

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed coverage.html
var pageText string

//go:embed coverage.css
var styleText string

// HTML writes a report as one page that needs no other file and no script.
func HTML(w io.Writer, r *Report) error {
	t, err := template.New("coverage").Funcs(template.FuncMap{
		"show": show, "size": size, "sorted": func(g Grouping) []Value { return g.sorted() },
		"covered": func(g Grouping) string { return g.String() },
		"all":     func(t Totals) int { return t.Files.All + t.NotStarted },
	}).Parse(pageText)
	if err != nil {
		return fmt.Errorf("coverage parse: %w", err)
	}
	if err := t.Execute(w, map[string]any{"R": r, "Style": template.CSS(styleText)}); err != nil {
		return fmt.Errorf("coverage write: %w", err)
	}
	return nil
}
