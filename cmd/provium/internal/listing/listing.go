// Package listing prints what is in the caches of a user, what profiles boot, and sizes for people. It makes and
// removes nothing, but for CleanBoots.
package listing

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"provium/internal/image"
	"provium/internal/snapshot"
	"provium/internal/terminal"
)

// outputError says that the output itself could not be written.
func outputError(err error) error {
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

// MiB returns a size as listings show it.
func MiB(n int64) string { return fmt.Sprintf("%.2fMiB", float64(n)/(1<<20)) }

// Images lists entries of the cache of images.
func Images(w io.Writer, entries []image.CacheEntry) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, e := range entries {
		fmt.Fprintln(t, strings.TrimRight(fmt.Sprintf("%s\t%s\t%s\t%s\t%s", e.Kind, Size(e.Size),
			e.Used.Format("2006-01-02 15:04"), e.Name, e.Note), "\t"))
	}
	if err := t.Flush(); err != nil {
		return outputError(err)
	}
	_, err := fmt.Fprintf(w, "%d entries, %s\n", len(entries), Size(Total(entries)))
	return outputError(err)
}

// Total returns the size of entries, in bytes.
func Total(entries []image.CacheEntry) (sum int64) {
	for _, e := range entries {
		sum += e.Size
	}
	return sum
}

// Size returns a size for people.
func Size(n int64) string {
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%dB", n)
	}
	return fmt.Sprintf("%.2f%s", f, units[i])
}

// Boots lists the guests in a boot cache.
func Boots(out io.Writer, cache *snapshot.Cache) error {
	all, err := cache.List()
	if err != nil {
		return err
	}
	now := time.Now()
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, e := range all {
		used := "never used"
		if e.Used.After(e.Made) {
			used = "used " + ago(now.Sub(e.Used))
		}
		what := "(cannot be read)\t\t"
		if e.Foreign {
			what = "(of another version of Provium)\t\t"
		}
		if m := e.Manifest; m != nil {
			kernel := m.Guest.Kernel
			if kernel == "" {
				kernel = "?"
			}
			what = fmt.Sprintf("%s\t%s\t%s, %d vCPU", m.Guest.Profile, kernel, Size(m.Machine.Memory),
				m.Machine.CPUs)
		}
		fmt.Fprintf(w, "%12s\t%s\tmade %s\t%s\n", MiB(e.Size), terminal.Escape(what), ago(now.Sub(e.Made)), used)
	}
	if err := w.Flush(); err != nil {
		return outputError(err)
	}
	_, err = fmt.Fprintf(out, "%d entries, %s\n", len(all), MiB(bootsSize(all)))
	return outputError(err)
}

// CleanBoots empties a boot cache.
func CleanBoots(out io.Writer, cache *snapshot.Cache) error {
	removed, err := cache.Clean(time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "removed %d entries, %s\n", len(removed), MiB(bootsSize(removed)))
	return outputError(err)
}

func bootsSize(entries []snapshot.Entry) (sum int64) {
	for _, e := range entries {
		sum += e.Size
	}
	return sum
}

// ago returns for people how long something is past.
func ago(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%dmin ago", d/time.Minute)
	case d < day:
		return fmt.Sprintf("%dh ago", d/time.Hour)
	}
	return fmt.Sprintf("%dd ago", d/day)
}
