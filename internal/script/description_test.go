package script

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"provium/internal/lua"
	"provium/internal/luaapi"
)

// The description of the API has the members of t, and no other.
func TestDescriptionOfT(t *testing.T) {
	state, err := lua.New(lua.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	s, err := newAssertions(context.Background(), state)
	if err != nil {
		t.Fatal(err)
	}
	live := slices.Sorted(maps.Keys(s.object.Methods))
	live = append(live, s.object.Fields...)
	slices.Sort(live)
	if described := luaapi.ClassOf("t").Members(); !slices.Equal(live, described) {
		t.Errorf("live:      %v\ndescribed: %v", live, described)
	}
}

// The description has the global variables that a test file finds, and the functions of its
// libraries.
func TestDescriptionOfGlobals(t *testing.T) {
	o := run(t, `
		local names = {}
		for name in pairs(_G) do names[#names + 1] = name end
		for _, library in ipairs{"co", "json"} do
			for name in pairs(_G[library]) do names[#names + 1] = library .. "." .. name end
		end
		if test.each then names[#names + 1] = "test.each" end
		test("it", function(t) t:log(table.concat(names, " ")) end)`)
	live := strings.Fields(o.passed(t, "it").Log[0])
	described := luaapi.StandardGlobals()
	for _, c := range luaapi.Classes() {
		switch c.Kind {
		case luaapi.Library:
			described = append(described, c.Name)
			for _, m := range c.Methods {
				described = append(described, c.Qualified(m.Name))
			}
		case luaapi.Globals:
			described = append(described, c.Members()...)
		}
	}
	slices.Sort(live)
	slices.Sort(described)
	if described = slices.Compact(described); !slices.Equal(live, described) {
		t.Errorf("live:      %v\ndescribed: %v", live, described)
	}
}

// wait_until takes the options that are described, and tests the metadata that mean something.
func TestDescriptionOfGlobalOptions(t *testing.T) {
	want := fmt.Sprintf("unknown option `no_such_key` (valid: %s)",
		strings.Join(luaapi.Keys(luaapi.ClassOf("globals").Method("wait_until").Options), ", "))
	if got := body(t, `wait_until(print, {no_such_key = 1})`); !strings.Contains(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
	for _, o := range luaapi.ClassOf("globals").Method("test").Options {
		if got := run(t, fmt.Sprintf(`test("it", {%s = {{}}}, function() end)`, o.Name)).ChunkError; got == "" {
			t.Errorf("meta.%s has no meaning", o.Name)
		}
	}
}
