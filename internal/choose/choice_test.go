package choose

import "testing"

// TestChoice has equal choices be equal texts, and others not.
func TestChoice(t *testing.T) {
	none := Filter{Tags: []string{}, Names: []string{}}
	if text := none.Choice(map[string]Picks{}); text != "" {
		t.Errorf("no choice is %q", text)
	}
	seen := map[string]int{}
	for i, text := range []string{
		none.Choice(map[string]Picks{"a": {Names: []string{"x"}}}),
		none.Choice(map[string]Picks{"a": {Lines: []int{3}}}),
		Filter{IncludeSlow: true}.Choice(nil),
		Filter{Tags: []string{"net"}}.Choice(nil),
		Filter{NoTags: []string{"net"}}.Choice(nil),
		Filter{Keyword: "net"}.Choice(nil),
		Filter{Names: []string{"net"}}.Choice(nil),
	} {
		if other, ok := seen[text]; ok || text == "" {
			t.Errorf("choice %d is %q, as is %d", i, text, other)
		}
		seen[text] = i
	}
	same := Filter{Tags: []string{"net"}, NoTags: []string{}}
	if same.Choice(nil) != (Filter{Tags: []string{"net"}}).Choice(nil) {
		t.Error("an empty list makes a difference")
	}
}
