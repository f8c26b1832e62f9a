package api

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"provium/internal/lua"
	"provium/internal/pattern"
)

// FuzzPattern compares searches for Lua patterns with Lua's own.
func FuzzPattern(f *testing.F) {
	for _, p := range []string{"session=(%x+)\n", "()%b[]%f[%w](.-)%2", "[^]%d-a]+", "[a-%]]",
		"[%a-z]", "[]-a]", "(%w*)%1-", "%f[^%s]%S+%f[%s%z]", "((%u)(%l?))%3", "[%]]%%%", "a?b*c+d-e", "%bxx.",
		"[--0]", "[a-]", "[^^]", "(()())", "%w%W%g%G%p%P"} {
		f.Add(p, "x session=beef\n [[a]] bb-]a-z0 Aa^^%]")
	}
	s, err := lua.New(lua.Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	find, err := s.LoadString(`local s, p = ... local r = {pcall(string.find, s, p)}
		if not r[1] then return "error: " .. r[2] elseif not r[2] then return "none" end
		for i = 4, #r do r[i] = math.type(r[i]) and "@" .. r[i] - r[2] + 1 or r[i] end
		return table.concat(r, "|", 2)`, "find")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text, b string) {
		if len(text) > 20 || len(b) > 40 {
			t.Skip("Lua's own search may take for ever")
		}
		p, err := pattern.Lua(text)
		if err != nil {
			if strings.Contains(err.Error(), "no place to stand for") {
				return // Lua has anchors
			}
			// Lua sees no fault that a search does not come to.
			_, err := s.Call(context.Background(), find, b, text)
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		want, err := s.Call(context.Background(), find, b, text)
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := p.Find(context.Background(), []byte(b), 0, false)
		if err != nil {
			t.Fatal(err)
		}
		got := "none"
		if m != nil {
			got = fmt.Sprintf("%d|%d", m.Start+1, m.End)
			for _, v := range captured(m) {
				if n, ok := v.(int64); ok {
					v = fmt.Sprintf("@%d", n)
				}
				got += "|" + v.(string)
			}
		}
		if got != want[0] {
			t.Errorf("%q in %q: %q, Lua has %q", text, b, got, want[0])
		}
	})
}
