package apt

import (
	"slices"
	"strings"
	"testing"
)

// FuzzDepends checks that names of packages are words of the text, and that a list which
// the package manager makes of them is read as they are.
func FuzzDepends(f *testing.F) {
	f.Add("linux-image-amd64\n  Depends: linux-image-6.1.0-9-amd64\n |Depends: x\n  PreDepends: y:any\n  Breaks: z\n")
	f.Fuzz(func(t *testing.T, text string) {
		names := parseDepends(text)
		list := "package\n"
		for _, n := range names {
			if !strings.Contains(text, n) || strings.ContainsAny(n, "\n:") || n != strings.TrimSpace(n) {
				t.Errorf("name %q", n)
			}
			list += "  Depends: " + n + "\n"
		}
		if slices.Contains(names, "") {
			t.Errorf("%q has an empty name", text)
			return
		}
		if again := parseDepends(list); !slices.Equal(again, names) {
			t.Errorf("%q became %q", names, again)
		}
	})
}
