package main

import (
	"slices"
	"strings"
	"testing"
)

// TestChecks runs each check on a file with faults on the listed lines.
func TestChecks(t *testing.T) {
	long := strings.Repeat("x ", 60)
	body := strings.Repeat("\tprintln()\n", 80)
	for _, tc := range []struct {
		name, path, text string
		check            func(*file) []finding
		want             []int
	}{
		{"comments", "a.go", "package a\n\n// Does it.\nfunc F() {}\n\n" +
			"// The F2 does.\nfunc F2() {}\n\n// Gs.\nvar G int\n",
			commentStarts, []int{3, 9}},
		{"groups", "a.go", "package a\n\n// Some numbers.\nconst (\n\tA = 1\n\t// C is two.\n\tB = 2\n)\n",
			commentStarts, []int{6}},
		{"unexported", "a.go", "package a\n\n// Does it.\nfunc f() {}\n", commentStarts, nil},
		{"tests", "a_test.go", "package a\n\n// Does it.\nfunc F() {}\n", commentStarts, nil},
		{"phrases", "a.go", "package a\n\n// F tells\n// whether.\nfunc F() {}\n\nvar x = \"trouble\" // trouble\n",
			commentPhrases, []int{3, 7}},
		{"gives", "a.go", "package a\n\n// F gives one.\nfunc F() {}\n", commentPhrases, []int{3}},
		{"pages", "a.md", "fine\nThere is trouble.\n", pagePhrases, []int{2}},
		{"lines", "a.go", "package a\n\n// " + long + "\n\n// https://" + strings.ReplaceAll(long, " ", "") +
			long[:60] + "\n",
			longLines, []int{3, 5}},
		{"addresses", "a.go", "package a\n\n// https://" + strings.Repeat("x", 200) + "\n", longLines, nil},
		{"raw strings", "a.go", "package a\n\nvar x = `\n" + long + "\n`\n", longLines, nil},
		{"test lines", "a_test.go", "package a\n\n// " + long + "\n", longLines, nil},
		{"test lines 2", "a_test.go", "package a\n\n// " + long + "\n", longTestLines, []int{3}},
		{"functions", "a.go", "package a\n\nfunc f() {\n" + body + "}\n", longFunctions, []int{3}},
		{"reasons", "a.go", "package a\n\n// f is.\n// Long: a table.\nfunc f() {\n" + body + "}\n", longFunctions,
			nil},
		{"files", "a.go", "package a\n" + strings.Repeat("\n", 600), longFiles, []int{1}},
	} {
		f, err := parse(tc.path, tc.text)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		var got []int
		for _, x := range tc.check(f) {
			got = append(got, x.line)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: lines %v, want %v", tc.name, got, tc.want)
		}
	}
}
