package lua

import (
	"slices"
	"strings"
)

// Closest returns the name nearest to word by edit distance, where a swap of
// neighbours counts once, or else one that has word as a part, as exit_code has code;
// "" when none is near enough to be meant. Of equally near names it returns the first.
func Closest(word string, names []string) string {
	best, limit := "", max(2, len(word)/3)+1
	for _, n := range names {
		if d := len(n) - len(word); d >= limit || -d >= limit {
			continue
		}
		if d := distance(word, n); d < limit && d < max(len(word), len(n)) {
			best, limit = n, d
		}
	}
	hasPart := func(n string) bool { return slices.Contains(strings.Split(n, "_"), word) }
	if i := slices.IndexFunc(names, hasPart); best == "" && i >= 0 {
		return names[i]
	}
	return best
}

// distance returns the optimal string alignment distance of bytes.
func distance(a, b string) int {
	var prev2 []int
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev = prev, row
	}
	return prev[len(b)]
}
