package choose

import (
	"reflect"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for _, c := range []struct {
		name, test string
		want       bool
	}{
		{"boot", "it boots", true}, {"Boot", "it boots", false}, {"/^it/", "it boots", true},
		{"/^boots/", "it boots", false}, {"/", "a/b", true}, {"//", "a//b", true}, {"/(?i)BOOTS$/", "it boots", true},
		{"it boots", "it boots", true},
	} {
		if got := MatchesName(c.name, c.test); got != c.want {
			t.Errorf("%q, %q: %v", c.name, c.test, got)
		}
	}
	for name, want := range map[string]string{"": "not empty", "/(/": "bad regular expression", "(": "", "/a/": ""} {
		err := CheckName(name)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestKeyword(t *testing.T) {
	test := Test{Path: "tests/net/Split.test.lua", Name: "Cluster heals", Group: "", Meta: map[string]any{
		"tags": []any{"smoke"}}}
	for text, want := range map[string]answer{
		"heals": yes, "HEALS": yes, "split": yes, "smok": yes, "gone": no, "not gone": yes, "not heals": no,
		"heals and split": yes, "heals and gone": no, "gone or split": yes, "gone or heals and gone": no,
		"(gone or heals) and smoke": yes, "not (gone or absent)": yes, "not not heals": yes,
		`"cluster heals"`: yes, `'heals cluster'`: no, `"not"`: no, "(heals)": yes,
	} {
		k, err := parseKeyword(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := k.matches(test); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	for _, hidden := range []Test{{Path: "a"}, {Path: "a", Name: "x", Open: true},
		{Path: "a", Name: "x", Meta: map[string]any{"tags": Unknown{}}}} {
		for text, want := range map[string]answer{"y": maybe, "not y": maybe, "a and y": maybe, "a or y": yes,
			"not a": no} {
			k, _ := parseKeyword(text)
			if got := k.matches(hidden); got != want {
				t.Errorf("%+v, %s: %v, want %v", hidden, text, got, want)
			}
		}
	}
	for text, want := range map[string]string{
		"": "a text is missing at the end", "and": "a text is missing before `and`", "a and": "missing at the end",
		"a b": "`b` is not expected here", "(a": "a parenthesis is not closed", "a)": "`)` is not expected here",
		`"a`: "the quote \" is not closed", "''": "a text is empty", "not": "missing at the end",
		strings.Repeat("(", 1000) + "a": "nested too deeply", strings.Repeat("not ", 1000) + "a": "nested too deeply",
	} {
		if err := CheckKeyword(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: %v, want %s", text, err, want)
		}
	}
}

func TestFilterByName(t *testing.T) {
	for _, c := range []struct {
		filter Filter
		test   Test
		want   string
	}{
		{Filter{Names: []string{"a", "/^b/"}}, Test{Name: "xay"}, ""},
		{Filter{Names: []string{"a", "/^b/"}}, Test{Name: "bcd"}, ""},
		{Filter{Names: []string{"a", "/^b/"}}, Test{Name: "cbd"}, "filtered: did not match --test a, --test /^b/"},
		{Filter{Names: []string{"a"}}, Test{}, ""}, // not known yet
		{Filter{Keyword: "not a"}, Test{Name: "a"}, "filtered: did not match -k not a"},
		{Filter{Names: []string{"b"}}, Test{Name: "a", Meta: map[string]any{"slow": true}},
			"filtered: did not match --test b"},
		{Filter{Tags: []string{"x"}}, Test{Name: "a", Open: true}, ""},
		{Filter{Tags: []string{"x"}}, Test{Name: "a", Meta: map[string]any{"tags": Unknown{}}}, ""},
		{Filter{NoTags: []string{"x"}}, Test{Name: "a", Meta: map[string]any{"tags": Unknown{}}}, ""},
		{Filter{TagMeta: []string{"k=v"}}, Test{Name: "a", Meta: map[string]any{"k": Unknown{}}}, ""},
		{Filter{}, Test{Name: "a", Meta: map[string]any{"slow": Unknown{}}}, ""},
	} {
		if _, reason := c.filter.Skip(c.test); reason != c.want {
			t.Errorf("%+v, %+v: %q, want %q", c.filter, c.test, reason, c.want)
		}
	}
}

func TestPicks(t *testing.T) {
	test := Test{Path: "a.test.lua", Name: "n [1]", Group: "n", Lines: []Lines{{3, 3}, {10, 12}}}
	for _, c := range []struct {
		picks Picks
		want  string
	}{
		{Picks{}, ""}, {Picks{Lines: []int{3}}, ""}, {Picks{Lines: []int{11}}, ""}, {Picks{Lines: []int{1, 12}}, ""},
		{Picks{Lines: []int{4, 13}}, "filtered: did not match a.test.lua:4, a.test.lua:13"},
		{Picks{Names: []string{"n [1]"}}, ""}, {Picks{Names: []string{"n"}}, ""},
		{Picks{Lines: []int{1}, Names: []string{"n"}}, ""},
		{Picks{Names: []string{"n [2]"}}, "filtered: did not match a.test.lua::n [2]"},
		{Picks{OnlyFailed: true, Failed: []string{"n [1]"}}, ""},
		{Picks{OnlyFailed: true, Failed: []string{"x"}}, "filtered: did not fail before (--rerun-failed)"},
	} {
		if _, reason := c.picks.Skip(test); reason != c.want {
			t.Errorf("%+v: %q, want %q", c.picks, reason, c.want)
		}
	}
	if skip, _ := (Picks{Lines: []int{4}, Names: []string{"x"}}).Skip(Test{Path: "a"}); skip {
		t.Error("what is not known yet is left out")
	}
	p := Picks{OnlyFailed: true, Failed: []string{"a", "b"}}
	if got := p.Of([]string{"b", "c"}); !reflect.DeepEqual(got, p) {
		t.Errorf("%+v", got)
	}
	if got := p.Of([]string{"c"}); !reflect.DeepEqual(got, Picks{}) {
		t.Errorf("%+v", got)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"the cluster heals", "the cluster splits", "boots twice", "reads a file", "reads a file", "smoke"}
	for text, want := range map[string]string{
		"cluster heal": "the cluster heals|the cluster splits", "smok": "smoke", "Smoke": "smoke",
		"/boot/": "boots twice",
		"zzzzzz": "", "": "", "read a file": "reads a file",
	} {
		if got := strings.Join(Nearest(text, names), "|"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
