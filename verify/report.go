//go:build verify

package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"os"
	"strings"
)

// row is a line of the table.
type row struct {
	tried, figure string
	bad           int // what did not hold
}

// hold adds a line to the table. bad counts what did not hold.
func (v *verifier) hold(bad int, tried, format string, args ...any) {
	v.rows = append(v.rows, row{tried, fmt.Sprintf(format, args...), bad})
}

// complain prints what did not hold.
func (v *verifier) complain(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "verify: "+format+"\n", args...)
}

func (v *verifier) failed() bool {
	for _, r := range v.rows {
		if r.bad > 0 {
			return true
		}
	}
	return false
}

func (v *verifier) print(w io.Writer) {
	fmt.Fprintf(w, "| Tried | Result | |\n|---|---|---|\n")
	for _, r := range v.rows {
		held := "held"
		if r.bad > 0 {
			held = fmt.Sprintf("**%d did not hold**", r.bad)
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", r.tried, r.figure, held)
	}
}

//go:embed reliability.md
var page string

// figures is where the table stands in the page.
const figures = "{{figures}}\n"

// writeReport writes the page with the table.
func (v *verifier) writeReport(path string) error {
	var table bytes.Buffer
	v.print(&table)
	if err := os.WriteFile(path, []byte(strings.Replace(page, figures, table.String(), 1)), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
