package shard

import (
	"fmt"
	"strings"
	"testing"
)

func TestShardSplit(t *testing.T) {
	var paths []string
	for i := range 11 {
		paths = append(paths, fmt.Sprint("f", i))
	}
	for n := 1; n <= 13; n++ {
		seen := map[string]int{}
		for i := 1; i <= n; i++ {
			in := Shard{i, n}.Split(paths, nil)
			if len(in) < len(paths)/n || len(in) > len(paths)/n+1 {
				t.Errorf("%d/%d has %d files", i, n, len(in))
			}
			for p := range in {
				seen[p]++
			}
		}
		for _, p := range paths {
			if seen[p] != 1 {
				t.Errorf("%s is in %d of %d parts", p, seen[p], n)
			}
		}
	}
	if in := (Shard{}).Split(paths, nil); len(in) != len(paths) {
		t.Errorf("no shard has %d files", len(in))
	}
}

func TestParseShard(t *testing.T) {
	for text, want := range map[string]Shard{"1/1": {1, 1}, "2/3": {2, 3}, "3/3": {3, 3}} {
		if got, err := Parse(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "0/3", "4/3", "1", "1/", "/3", "1/0", "-1/3", "+1/3", "1/3/3", "1 /3",
		"1/99999999999999999999"} {
		if got, err := Parse(text); err == nil ||
			!strings.Contains(err.Error(), "shard `"+text+"`: expected I/N") {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}
