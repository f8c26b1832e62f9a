// Package shard says which test files are in which part of a run, by their paths alone or
// balanced by recorded durations, and finds out which part this machine runs.
//
// It neither finds files nor runs them. Every machine comes to the same parts from the same
// paths and durations. Start reading at Shard.Split.
package shard

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Shard is one of N parts of the files.
type Shard struct{ Index, Count int } // Index from 1; Count 0 is everything

// Split returns the paths that are in the shard. Order and repetition in paths have no
// influence. Without durations it takes, of all paths in sorted order, every Count-th, so
// that parts differ by one file at most. With durations, the longest file goes first, each to
// the part that has least to do so far, the first of several.
func (s Shard) Split(paths []string, d *Durations) map[string]bool {
	sorted := slices.Compact(slices.Sorted(slices.Values(paths)))
	in := map[string]bool{}
	if d != nil && s.Count > 1 {
		for i, part := range d.balance(sorted, s.Count) {
			if part == s.Index-1 {
				in[sorted[i]] = true
			}
		}
		return in
	}
	for i, path := range sorted {
		if s.Count <= 1 || i%s.Count == s.Index-1 {
			in[path] = true
		}
	}
	return in
}

// Selection returns the digest of a set of paths and of what chooses tests in them, "" for all
// tests: of each path, in sorted order, followed by a zero byte, and then of the choice.
func Selection(paths []string, choice string) string {
	h := sha256.New()
	for _, path := range slices.Compact(slices.Sorted(slices.Values(paths))) {
		h.Write(append([]byte(path), 0))
	}
	io.WriteString(h, choice)
	return fmt.Sprintf("sha256:%x", h.Sum(nil))
}

// String is the form of the flag.
func (s Shard) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Count) }

// Parse reads I/N.
func Parse(text string) (Shard, error) {
	bad := fmt.Errorf("shard `%s`: expected I/N with 1 <= I <= N", text)
	left, right, ok := strings.Cut(text, "/")
	if !ok {
		return Shard{}, bad
	}
	return newShard(left, right, 1, bad)
}

// newShard returns a shard for two numbers, the index counting from first.
func newShard(index, count string, first int, bad error) (Shard, error) {
	i, ok1 := shardNumber(index)
	n, ok2 := shardNumber(count)
	i += 1 - first
	if !ok1 || !ok2 || i < 1 || i > n {
		return Shard{}, bad
	}
	return Shard{Index: i, Count: n}, nil
}

// shardNumber reads plain digits, at most nine of them.
func shardNumber(text string) (int, bool) {
	if text == "" || len(text) > 9 || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}
