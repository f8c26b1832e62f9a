package shard

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// recorded is how long each file of our own suite kept a machine of two CPUs, in seconds, as
// docs/scale.md explains; recordedTests are in them.
var recorded = []float64{
	11.1, 10.7, 9.8, 9, 8.7, 8.6, 6.7, 6.6, 6.3, 6.2, 5.8, 5.7, 5, 5, 4.6, 4.6, 4.5, 4.4, 4.2, 4.2, 4.2,
	3.8, 3.6, 3.4, 3.2, 3.1, 3.1, 3.1, 2.9, 2.8, 2.7, 2.4, 2.3, 2.2, 2.2, 2.1, 2.1, 2.1, 1.9, 1.9, 1.9,
	1.9, 1.9, 1.8, 1.8, 1.8, 1.7, 1.7, 1.7, 1.6, 1.6, 1.5, 1.4, 1.4, 1.3, 1.3, 1.3, 1, 0.9, 0.8, 0.8, 0.8,
	0.7, 0.7, 0.6, 0.6, 0.5, 0.5, 0.4, 0.3, 0.3, 0.3, 0.3, 0.3, 0.2, 0.2, 0.2, 0.1, 0.1, 0, 0, 0, 0,
}

// What else the table is made of.
const (
	recordedTests = 581
	warmMiB       = 302        // what `cache pull` brings, compressed
	warmRequests  = 2*10 + 302 // manifests and descriptions, and chunks of 1 MiB
	soakGuests    = 10562      // without a failure that nothing explains
	linkGbit      = 10         // of the registry: an assumption
	spread        = 0.2        // how far a duration is from the recorded one: an assumption
)

// simulate returns how long tests run on so many machines, in seconds, if their files are split
// by recorded durations, by their paths alone, and ideally.
func simulate(tests, machines int) (balanced, fixed, ideal float64) {
	r := rand.New(rand.NewPCG(1, 1))
	files := tests * len(recorded) / recordedTests
	paths, real, known := make([]string, files), make([]float64, files), map[string]time.Duration{}
	byPath := make([]int, files)
	for i := range paths {
		paths[i], byPath[i] = fmt.Sprintf("tests/%05d.test.lua", i), i%machines
		d := recorded[r.IntN(len(recorded))]
		known[paths[i]] = time.Duration(d * float64(time.Second))
		real[i] = d * (1 + spread*(2*r.Float64()-1))
		ideal += real[i] / float64(machines)
	}
	longest := func(part []int) float64 {
		sums := make([]float64, machines)
		for i, p := range part {
			sums[p] += real[i]
		}
		return slices.Max(sums)
	}
	return longest(NewDurations(known).balance(paths, machines)), longest(byPath), ideal
}

// TestScale works out the table of docs/scale.md.
func TestScale(t *testing.T) {
	const tests = 100_000
	table := "| Machines | Time, balanced | Time, by path | Ideal | Machine hours | Cache traffic | Requests | " +
		"Link busy |\n|---|---|---|---|---|---|---|---|\n"
	text := func(s float64) string { return time.Duration(s * float64(time.Second)).Round(time.Second).String() }
	for _, n := range []int{1, 10, 100, 1000} {
		balanced, fixed, ideal := simulate(tests, n)
		table += fmt.Sprintf("| %d | %s | %s | %s | %.0f | %.1f GiB | %d | %s |\n", n, text(balanced), text(fixed),
			text(ideal), balanced*float64(n)/3600, float64(n)*warmMiB/1024, n*warmRequests,
			text(float64(n)*warmMiB*8/1024/linkGbit))
	}
	table += fmt.Sprintf("\nFailures without a cause in %d tests: at most %.0f, with `--retries 1` %.3f.\n", tests,
		tests*3.0/soakGuests, tests*3.0/soakGuests*3.0/soakGuests)
	page, err := os.ReadFile("../../docs/scale.md")
	if err != nil || !strings.Contains(string(page), table) {
		t.Errorf("docs/scale.md lacks this table (%v):\n%s", err, table)
	}
}
