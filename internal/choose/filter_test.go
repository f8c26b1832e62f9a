package choose

import (
	"reflect"
	"strings"
	"testing"
)

func TestFilterSkip(t *testing.T) {
	type meta = map[string]any
	tags := func(names ...any) meta { return meta{"tags": names} }
	for name, c := range map[string]struct {
		filter Filter
		meta   meta
		want   string // reason, "" to run
	}{
		"no meta": {Filter{}, nil, ""},
		"slow": {Filter{}, meta{"slow": true},
			"filtered: slow tests skipped (pass --include-slow)"},
		"slow integer": {Filter{}, meta{"slow": int64(2)},
			"filtered: slow tests skipped (pass --include-slow)"},
		"not slow":      {Filter{}, meta{"slow": int64(0)}, ""},
		"slow is false": {Filter{}, meta{"slow": false}, ""},
		"slow included": {Filter{IncludeSlow: true}, meta{"slow": true}, ""},
		"slow as tag":   {Filter{}, tags("slow"), ""},
		"tag":           {Filter{Tags: []string{"smoke"}}, tags("net", "smoke"), ""},
		"tag as string": {Filter{Tags: []string{"smoke"}}, meta{"tags": "smoke"}, ""},
		"tag as bytes":  {Filter{Tags: []string{"\xff"}}, meta{"tags": []any{[]byte("\xff")}}, ""},
		"any tag":       {Filter{Tags: []string{"x", "net"}}, tags("net"), ""},
		"no such tag": {Filter{Tags: []string{"smoke"}}, tags("smoky"),
			"filtered: did not match --tag smoke"},
		"no tags": {Filter{Tags: []string{"smoke", "net"}}, meta{},
			"filtered: did not match --tag smoke, --tag net"},
		"excluded tag": {Filter{NoTags: []string{"x", "net"}}, tags("net"),
			"filtered: matched --no-tag net"},
		"exclusion wins": {Filter{Tags: []string{"net"}, NoTags: []string{"flaky"}}, tags("net", "flaky"),
			"filtered: matched --no-tag flaky"},
		"slow first": {Filter{NoTags: []string{"net"}}, meta{"slow": true, "tags": "net"},
			"filtered: slow tests skipped (pass --include-slow)"},
		"meta":          {Filter{TagMeta: []string{"area=net"}}, meta{"area": "net"}, ""},
		"meta in array": {Filter{TagMeta: []string{"area=net"}}, meta{"area": []any{"fs", "net"}}, ""},
		"meta boolean": {Filter{TagMeta: []string{"root=true", "kvm=false"}},
			meta{"root": true, "kvm": false}, ""},
		"meta number": {Filter{TagMeta: []string{"n=1"}}, meta{"n": int64(1)},
			"filtered: did not match --tag-meta n=1"},
		"meta float": {Filter{TagMeta: []string{"n=1.5"}}, meta{"n": 1.5},
			"filtered: did not match --tag-meta n=1.5"},
		"meta map": {Filter{TagMeta: []string{"m=a"}}, meta{"m": meta{"a": "a"}},
			"filtered: did not match --tag-meta m=a"},
		"numbers in array": {Filter{TagMeta: []string{"n=1"}}, meta{"n": []any{int64(1), true}},
			"filtered: did not match --tag-meta n=1"},
		"meta absent": {Filter{TagMeta: []string{"area=net"}}, meta{},
			"filtered: did not match --tag-meta area=net"},
		"every key": {Filter{TagMeta: []string{"a=1", "b=2"}}, meta{"a": "1", "b": "3"},
			"filtered: did not match --tag-meta b=2"},
		"one value of a key": {Filter{TagMeta: []string{"a=1", "b=2", "a=3"}}, meta{"a": "3", "b": "2"}, ""},
		"no value of a key": {Filter{TagMeta: []string{"a=1", "b=2", "a=3"}}, meta{"a": "2", "b": "2"},
			"filtered: did not match --tag-meta a=1, --tag-meta a=3"},
		"first equals sign": {Filter{TagMeta: []string{"a=b=c"}}, meta{"a": "b=c"}, ""},
		"empty value":       {Filter{TagMeta: []string{"a="}}, meta{"a": ""}, ""},
		"excluded meta": {Filter{NoTagMeta: []string{"a=1", "b=2"}}, meta{"b": "2"},
			"filtered: matched --no-tag-meta b=2"},
		"excluded before meta": {Filter{TagMeta: []string{"a=1"}, NoTagMeta: []string{"b=2"}}, meta{"b": "2"},
			"filtered: matched --no-tag-meta b=2"},
		"tag before meta": {Filter{Tags: []string{"x"}, NoTagMeta: []string{"b=2"}}, meta{"b": "2"},
			"filtered: did not match --tag x"},
		"tags as meta": {Filter{TagMeta: []string{"tags=net"}}, tags("net"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			skip, reason := c.filter.Skip(Test{Name: "x", Meta: c.meta})
			if reason != c.want || skip != (c.want != "") {
				t.Errorf("got %v %q, want %q", skip, reason, c.want)
			}
		})
	}
}

func TestFilterJSON(t *testing.T) {
	text, err := Filter{}.JSON()
	if want := `{"include_slow":false,"tags":[],"no_tags":[],"tag_meta":[],"no_tag_meta":[]}`; err != nil ||
		string(text) != want {
		t.Errorf("zero: %s, %v", text, err)
	}
	full := Filter{IncludeSlow: true, Tags: []string{"a"}, NoTags: []string{"b"}, TagMeta: []string{"k=v"},
		NoTagMeta: []string{"k=w"}}
	text, err = full.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseFilter(text); err != nil || !reflect.DeepEqual(got, full) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := ParseFilter(nil); err != nil || !reflect.DeepEqual(got, Filter{}) {
		t.Errorf("nothing: %+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"{":                       "test filter decode: ",
		`{"tags":1}`:              "test filter decode: ",
		`{"tag_meta":["x"]}`:      "--tag-meta `x`: expected KEY=VALUE",
		`{"no_tag_meta":["=x"]}`:  "--no-tag-meta `=x`: expected KEY=VALUE",
		`{"tags":["a"]} trailing`: "test filter decode: ",
	} {
		if _, err := ParseFilter([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzParseFilter checks that what is accepted survives a round trip and
// decides without panic.
func FuzzParseFilter(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte(`{"include_slow":true,"tags":["a"],"no_tags":["b"],"tag_meta":["k=v","k=w"],"no_tag_meta":["=x"]}`))
	f.Add([]byte(`{"tags":null,"tag_meta":["a=b=c"]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		filter, err := ParseFilter(text)
		if err != nil {
			return
		}
		again, err := filter.JSON()
		if err != nil {
			t.Fatal(err)
		}
		second, err := ParseFilter(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		meta := map[string]any{"tags": []any{"a"}, "k": "v", "slow": int64(1)}
		skip, reason := filter.Skip(Test{Name: "x", Meta: meta})
		skip2, reason2 := second.Skip(Test{Name: "x", Meta: meta})
		if skip != skip2 || reason != reason2 || skip == (reason == "") {
			t.Errorf("%v %q, again %v %q", skip, reason, skip2, reason2)
		}
	})
}
