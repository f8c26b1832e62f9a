package page

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"time"
)

//go:embed page.html
var pageText string

//go:embed page.css
var styleText string

//go:embed page.js
var scriptText string

// Write renders the page of all that was read. What has not ended is unfinished then.
func (b *Builder) Write(w io.Writer) error {
	b.finish()
	b.m.Start = b.first / int64(time.Millisecond)
	b.m.Title = "Provium: " + b.date()
	data, err := json.Marshal(&b.m)
	if err != nil {
		return fmt.Errorf("page encode: %w", err)
	}
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return fmt.Errorf("page parse: %w", err)
	}
	// Marshal has escaped what could end a script.
	err = t.Execute(w, map[string]any{
		"Title": b.m.Title, "Style": template.CSS(styleText), "Script": template.JS(scriptText),
		"Data": template.JS(data),
	})
	if err != nil {
		return fmt.Errorf("page write: %w", err)
	}
	return nil
}
