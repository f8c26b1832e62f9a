package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var luaFence = regexp.MustCompile("(?s)```lua\n(.*?)```")

// The examples of the guides have no mistakes that can be found without running them. A block
// without tests is the body of one, with what the guide has declared before.
func TestGuides(t *testing.T) {
	const before = `local vm, other = provium:vm("x", "host"), provium:vm("y", "host")
local n1, n2, lan = provium:vm("n1", "host"), provium:vm("n2", "host"), provium:bridge("l")
local server, ask = vm:run_async("x"), print
test("x", function(t)
`
	pages, err := filepath.Glob("../../docs/guides/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatal(pages, err)
	}
	files := map[string]string{"provium.toml": autoConfig, "tests/setups/web.fixture.lua": "",
		"tests/setups/cluster.fixture.lua": ""}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		for i, m := range luaFence.FindAllSubmatch(text, -1) {
			body := string(m[1])
			if !strings.Contains(body, "test(") && !strings.Contains(body, "test.each(") &&
				!strings.Contains(body, "\nreturn vm") {
				body = before + body + "\nend)\n"
			}
			if strings.Contains(body, "test(") && !strings.Contains(body, "provium:vm(") {
				body = before + "end)\n" + body
			}
			files[fmt.Sprintf("tests/%s-%d.test.lua", name, i+1)] = body
		}
	}
	p := newCLI(t, files)
	if code, stdout, stderr := p.run("check"); code != 0 {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}
