package sched

import (
	"fmt"
	"math"
	"slices"
)

// Candidate is a file to be put in order.
type Candidate struct {
	// Seconds is how long it took before; 0: unknown.
	Seconds float64
	// Group names what it shares with others, as a fixture.
	Group string
}

// Order returns the numbers of the files in the order in which they should start: those
// that nothing is known of, then the longest. Files of about the same length that share
// something stand together. Otherwise their order stays.
func Order(files []Candidate) []int {
	order := make([]int, len(files))
	for i := range order {
		order[i] = i
	}
	first := map[string]int{} // of a group within a class
	key := func(i int) string { return fmt.Sprintf("%d %s", class(files[i].Seconds), files[i].Group) }
	for i := range files {
		if _, ok := first[key(i)]; !ok || files[i].Group == "" {
			first[key(i)] = i
		}
	}
	position := func(i int) int {
		if files[i].Group == "" {
			return i
		}
		return first[key(i)]
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if ca, cb := class(files[a].Seconds), class(files[b].Seconds); ca != cb {
			return cb - ca
		}
		if d := position(a) - position(b); d != 0 {
			return d
		}
		return a - b
	})
	return order
}

// class returns the class of a duration. Each is twice as long as the one below it.
func class(seconds float64) int {
	if !(seconds > 0) || math.IsInf(seconds, 0) {
		return math.MaxInt16
	}
	return int(math.Floor(math.Log2(seconds)))
}
