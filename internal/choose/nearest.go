package choose

import (
	"cmp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// mostNearest is how many names a message proposes.
const mostNearest = 3

// Nearest returns the names that are most like a text, the best one first: those that contain
// it or one of its words, then those with few differences. Names that are not like it at all
// are left out.
func Nearest(text string, names []string) []string {
	type candidate struct {
		name string
		far  float64
	}
	wanted := strings.ToLower(strings.Trim(text, "/"))
	var all []candidate
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if far := distance(wanted, strings.ToLower(name)); far <= 0.6 {
			all = append(all, candidate{name, far})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.far, b.far) })
	var out []string
	for _, c := range all[:min(len(all), mostNearest)] {
		out = append(out, c.name)
	}
	return out
}

// distance says how unlike two texts are, from 0 to 1: by characters, and by words, since the
// name of a test is a sentence.
func distance(wanted, name string) float64 {
	if wanted == "" {
		return 1
	}
	whole := ratio(wanted, name)
	words := strings.Fields(name)
	parts := strings.Fields(wanted)
	if len(parts) == 0 || len(words) == 0 {
		return whole
	}
	sum := 0.0
	for _, part := range parts {
		best := 1.0
		for _, w := range words {
			best = min(best, ratio(part, w))
		}
		sum += best
	}
	const weight = 0.1 // equal sentences come before longer ones
	return min(whole, (1-weight)*sum/float64(len(parts))+weight*whole)
}

// longestCompared bounds the work for two names: it grows with the square.
const longestCompared = 200

func ratio(a, b string) float64 {
	a, b = a[:min(len(a), longestCompared)], b[:min(len(b), longestCompared)]
	if longer := max(len(a), len(b)); longer > 0 {
		return float64(levenshtein.Distance(a, b, nil)) / float64(longer)
	}
	return 0
}
