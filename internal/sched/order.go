package sched

import (
	"cmp"
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
// something stand together.
func Order(files []Candidate) []int {
	order := make([]int, len(files))
	longest := map[string]float64{} // of a group within a class
	key := func(i int) string {
		if files[i].Group == "" {
			return fmt.Sprint(i)
		}
		return fmt.Sprintf("%d %s", class(files[i].Seconds), files[i].Group)
	}
	for i, f := range files {
		order[i] = i
		longest[key(i)] = max(longest[key(i)], f.Seconds)
	}
	first := map[string]int{}
	for i := range files {
		if _, ok := first[key(i)]; !ok {
			first[key(i)] = i
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(
			cmp.Compare(class(files[b].Seconds), class(files[a].Seconds)),
			cmp.Compare(longest[key(b)], longest[key(a)]),
			cmp.Compare(first[key(a)], first[key(b)]),
			cmp.Compare(files[b].Seconds, files[a].Seconds),
			cmp.Compare(a, b))
	})
	return order
}

// class returns the class of a duration. Each is half as long again as the one below it.
func class(seconds float64) int {
	if !(seconds > 0) || math.IsInf(seconds, 0) {
		return math.MaxInt16
	}
	return int(math.Floor(math.Log(seconds) / math.Log(1.5)))
}
