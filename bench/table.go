//go:build bench

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// sample is a series of durations of the same thing.
type sample []time.Duration

func (s sample) median() time.Duration { return s.quantile(0.5) }

// best returns the first decile: what a busy machine hides in the median.
func (s sample) best() time.Duration { return s.quantile(0.1) }

// quantile is interpolated between the two nearest values.
func (s sample) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	c := slices.Sorted(slices.Values(s))
	at := q * float64(len(c)-1)
	i := int(at)
	if i == len(c)-1 {
		return c[i]
	}
	return c[i] + time.Duration((at-float64(i))*float64(c[i+1]-c[i]))
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

// row is one figure. An empty target marks a figure that is only reported. best
// is the ratio of the best deciles.
type row struct{ figure, value, reference, ratio, best, target, verdict string }

type table struct{ rows []row }

func (t *table) info(figure, value, reference, ratio string) {
	t.rows = append(t.rows, row{figure, value, reference, ratio, "", "", ""})
}

func (t *table) judge(figure, value, target string, ok bool) {
	t.compare(row{figure: figure, value: value, target: target}, ok)
}

func (t *table) compare(r row, ok bool) {
	r.verdict = "miss"
	if ok {
		r.verdict = "ok"
	}
	t.rows = append(t.rows, r)
}

// atMost is for figures that are times: the smaller the ratio, the better. The
// reference is the sum of the given ones.
func (t *table) atMost(figure string, value sample, limit float64, references ...sample) {
	var median, best time.Duration
	var text []string
	for _, r := range references {
		median, best = median+r.median(), best+r.best()
		text = append(text, r.String())
	}
	ratio := float64(value.median()) / float64(median)
	t.compare(row{figure, value.String(), strings.Join(text, " + "), fmt.Sprintf("%.2f", ratio),
		fmt.Sprintf("%.2f", float64(value.best())/float64(best)), fmt.Sprintf("<= %.2f", limit), ""}, ratio <= limit)
}

// floor is atMost without a target.
func (t *table) floor(figure string, value sample, references ...sample) {
	t.atMost(figure, value, 0, references...)
	last := &t.rows[len(t.rows)-1]
	last.target, last.verdict = "", ""
}

// atLeast is for throughput of the same number of bytes.
func (t *table) atLeast(figure string, bytes int, value, reference sample, limit float64) {
	ratio := float64(reference.median()) / float64(value.median())
	t.compare(row{figure, mbps(bytes, value), mbps(bytes, reference), fmt.Sprintf("%.2f", ratio),
		fmt.Sprintf("%.2f", float64(reference.best())/float64(value.best())), fmt.Sprintf(">= %.2f", limit), ""},
		ratio >= limit)
}

// compareBulk is atLeast without a target.
func (t *table) compareBulk(figure string, bytes int, value, reference sample) {
	t.info(figure, mbps(bytes, value), mbps(bytes, reference),
		fmt.Sprintf("%.2f", float64(reference.median())/float64(value.median())))
}

func mbps(bytes int, s sample) string { return fmt.Sprintf("%.0f MB/s (n=%d)", rate(bytes, s), len(s)) }

func (t *table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "figure\tvalue\treference\tratio\tbest 10%\ttarget\t")
	for _, r := range t.rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.figure, r.value, dash(r.reference), dash(r.ratio),
			dash(r.best), dash(r.target), r.verdict)
	}
	_ = tw.Flush() // a standard output that is gone has nobody to tell
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
