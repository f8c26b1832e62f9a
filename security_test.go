package provium

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityPromises looks for the tests that docs/security.md names.
func TestSecurityPromises(t *testing.T) {
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	eachGoFile(t, func(file, _ string) {
		if !strings.HasSuffix(file, "_test.go") {
			return
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range function.FindAllSubmatch(source, -1) {
			there[string(name[1])] = true
		}
	})
	names := regexp.MustCompile("`((?:Test|Fuzz)\\w+|tests/[\\w./-]+)`").FindAllSubmatch(text, -1)
	if len(names) < 20 {
		t.Errorf("%d tests are named", len(names))
	}
	for _, name := range names {
		if _, err := os.Stat(string(name[1])); err != nil && !there[string(name[1])] {
			t.Errorf("there is no %s", name[1])
		}
	}
}
