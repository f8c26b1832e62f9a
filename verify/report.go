//go:build verify

package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// row is a line of the table.
type row struct {
	tried, figure string
	bad           int // what did not hold
	part          string
}

// hold returns a line of the table. bad counts what did not hold.
func hold(bad int, tried, format string, args ...any) row {
	return row{tried: tried, figure: fmt.Sprintf(format, args...), bad: bad}
}

// tally is what a part has counted.
type tally struct {
	Counts map[string]int
	Times  []time.Duration
	Parts  []time.Duration `json:",omitempty"` // until guests below a killed process are gone
	Logs   []time.Duration `json:",omitempty"` // to read the logs of kernels
}

func newTally() *tally { return &tally{Counts: map[string]int{}} }

// add adds to a count.
func (t *tally) add(name string, n int) { t.Counts[name] += n }

// atLeast makes a count n if it is less.
func (t *tally) atLeast(name string, n int) { t.Counts[name] = max(t.Counts[name], n) }

// complain prints what did not hold.
func (v *verifier) complain(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "verify: "+format+"\n", args...)
}

func printTable(w io.Writer, rows []row) (bad int) {
	fmt.Fprintf(w, "| Part | Tried | Result | |\n|---|---|---|---|\n")
	for _, r := range rows {
		held := "held"
		if r.bad > 0 {
			held = fmt.Sprintf("**%d did not hold**", r.bad)
		}
		bad += r.bad
		fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", r.part, r.tried, r.figure, held)
	}
	return bad
}

//go:embed reliability.md
var page string

// figures is where the table stands in the page.
const figures = "{{figures}}\n"

// resultsFile keeps the tallies of the parts, so that they can be run one by one.
const resultsFile = "dist/verified.json"

// readTallies returns the latest tallies of all parts that were ever run.
func readTallies() (map[string]*tally, error) {
	all := map[string]*tally{}
	text, err := os.ReadFile(resultsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", resultsFile, err)
	}
	return all, nil
}

func writeTallies(all map[string]*tally) error {
	text, err := json.MarshalIndent(all, "", " ")
	if err == nil {
		err = os.WriteFile(resultsFile, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", resultsFile, err)
	}
	return nil
}

// table returns the lines of a part.
func (p *part) table(t *tally) []row {
	rows := p.rows(t)
	for i := range rows {
		rows[i].part = p.name
	}
	return rows
}

// writeReport writes the page with the table of all parts.
func writeReport(path string, all map[string]*tally) error {
	var rows []row
	for _, p := range parts {
		if t := all[p.name]; t != nil {
			rows = append(rows, p.table(t)...)
		}
	}
	var table bytes.Buffer
	printTable(&table, rows)
	if err := os.WriteFile(path, []byte(strings.Replace(page, figures, table.String(), 1)), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
