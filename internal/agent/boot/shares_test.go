package boot

import (
	"slices"
	"testing"
)

func TestParseShares(t *testing.T) {
	got, err := parseShares("share0 \"/srv/a b\"\nshare1 \"/c\\n\"\n")
	if want := []share{{"share0", "/srv/a b"}, {"share1", "/c\n"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{"share0\n", "share0 /a\n", " \"/a\"\n", "share0 \"a\"\n", "share0 \"/a\\x00\"\n"} {
		if got, err := parseShares(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got, err := readShares(); got != nil || err != nil {
		t.Errorf("without a list: %q, %v", got, err)
	}
}
