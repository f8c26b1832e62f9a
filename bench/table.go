//go:build bench

package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// sample is a series of durations of the same thing.
type sample []time.Duration

func (s sample) median() time.Duration {
	if len(s) == 0 {
		return 0
	}
	c := slices.Clone(s)
	slices.Sort(c)
	return (c[(len(c)-1)/2] + c[len(c)/2]) / 2
}

func (s sample) String() string { return fmt.Sprintf("%s (n=%d)", short(s.median()), len(s)) }

// short prints three significant digits.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.3g ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.3g us", float64(d)/1e3)
}

// rate is throughput.
func rate(bytes int, s sample) float64 { return float64(bytes) / s.median().Seconds() / 1e6 }

// row is one figure. An empty target marks a figure that is only reported.
type row struct{ figure, value, reference, ratio, target, verdict string }

type table struct{ rows []row }

func (t *table) info(figure, value, reference, ratio string) {
	t.rows = append(t.rows, row{figure, value, reference, ratio, "", ""})
}

func (t *table) judge(figure, value, reference, ratio, target string, ok bool) {
	verdict := "miss"
	if ok {
		verdict = "ok"
	}
	t.rows = append(t.rows, row{figure, value, reference, ratio, target, verdict})
}

// atMost is for figures that are times: the smaller the ratio, the better.
func (t *table) atMost(figure string, value, reference sample, limit float64) {
	ratio := float64(value.median()) / float64(reference.median())
	t.judge(figure, value.String(), reference.String(), fmt.Sprintf("%.2f", ratio), fmt.Sprintf("<= %.2f", limit), ratio <= limit)
}

// atLeast is for throughput of the same number of bytes.
func (t *table) atLeast(figure string, bytes int, value, reference sample, limit float64) {
	ratio := float64(reference.median()) / float64(value.median())
	t.judge(figure, mbps(bytes, value), mbps(bytes, reference), fmt.Sprintf("%.2f", ratio), fmt.Sprintf(">= %.2f", limit), ratio >= limit)
}

func mbps(bytes int, s sample) string { return fmt.Sprintf("%.0f MB/s (n=%d)", rate(bytes, s), len(s)) }

func (t *table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "figure\tvalue\treference\tratio\ttarget\t")
	for _, r := range t.rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", r.figure, r.value, dash(r.reference), dash(r.ratio), dash(r.target), r.verdict)
	}
	_ = tw.Flush() // a standard output that is gone has nobody to tell
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
