//go:build verify

package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// row is a line of the table.
type row struct {
	Part, Tried, Figure string
	Bad                 int // what did not hold
}

// hold adds a line to the table. bad counts what did not hold.
func (v *verifier) hold(bad int, tried, format string, args ...any) {
	v.rows = append(v.rows, row{v.part, tried, fmt.Sprintf(format, args...), bad})
}

// complain prints what did not hold.
func (v *verifier) complain(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "verify: "+format+"\n", args...)
}

func (v *verifier) failed() bool {
	for _, r := range v.rows {
		if r.Bad > 0 {
			return true
		}
	}
	return false
}

func printTable(w io.Writer, rows []row) {
	fmt.Fprintf(w, "| Tried | Result | |\n|---|---|---|\n")
	for _, r := range rows {
		held := "held"
		if r.Bad > 0 {
			held = fmt.Sprintf("**%d did not hold**", r.Bad)
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", r.Tried, r.Figure, held)
	}
}

//go:embed reliability.md
var page string

// figures is where the table stands in the page.
const figures = "{{figures}}\n"

// resultsFile keeps the rows of the parts, so that they can be run one by one.
const resultsFile = "dist/verify.json"

// writeReport writes the page with the table: of the parts that were run now, and the
// latest of the others.
func (v *verifier) writeReport(path string) error {
	var before []row
	text, err := os.ReadFile(resultsFile)
	if err == nil {
		err = json.Unmarshal(text, &before)
	}
	if err := ignoreMissing(err); err != nil {
		return fmt.Errorf("read %s: %w", resultsFile, err)
	}
	var all []row
	for _, p := range parts {
		of := func(r row) bool { return r.Part == p.name }
		from := before
		if slices.ContainsFunc(v.rows, of) {
			from = v.rows
		}
		for _, r := range from {
			if of(r) {
				all = append(all, r)
			}
		}
	}
	if text, err = json.MarshalIndent(all, "", " "); err == nil {
		err = os.WriteFile(resultsFile, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", resultsFile, err)
	}
	var table bytes.Buffer
	printTable(&table, all)
	if err := os.WriteFile(path, []byte(strings.Replace(page, figures, table.String(), 1)), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
