//go:build bench

package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed explorer.lua
var explorerScript string

// explorer runs a test that looks at a thousand crash points of an ext4 workload,
// and one that writes with and without a recording.
func (b *bench) explorer(ctx context.Context) error {
	p, err := b.project(map[string]string{"explorer.test.lua": explorerScript})
	if err != nil {
		return err
	}
	figures := filepath.Join(p.dir, "figures")
	if err := p.run(ctx, []string{"FIGURES=" + figures}, "--timeout", "0"); err != nil {
		return err
	}
	text, err := os.ReadFile(figures)
	if err != nil {
		return err
	}
	number := map[string]float64{}
	times := map[string]sample{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return fmt.Errorf("figure %q: %w", line, err)
		}
		number[name] = n
		times[name] = append(times[name], time.Duration(n*float64(time.Second)))
	}
	for _, guest := range []string{"reuse", "fresh"} {
		perSecond := number[guest+"-checked"] / number[guest+"-seconds"]
		figure := fmt.Sprintf("crash points of ext4, 2 guests, %s: %.0f, of which %.0f distinct", guest,
			number[guest+"-checked"], number[guest+"-distinct"])
		value := fmt.Sprintf("%.1f /s", perSecond)
		if guest == "reuse" {
			b.table.judge(figure, value, ">= 10 /s", perSecond >= 10)
		} else {
			b.table.info(figure, value, "", "")
		}
	}
	for _, what := range []string{"sequential-1MiB", "4KiB"} {
		b.table.atMost("recorded writes / plain ones, "+what, times["recorded-"+what], 1.15, times["plain-"+what])
	}
	return nil
}
