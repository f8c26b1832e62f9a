package e2e

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"provium/internal/fulltest"
)

// twoGuests is a file with two guests, which fit into 900 MiB together.
const twoGuests = `
local a = provium:vm("a", "host", {memory = "400M"})
local b = provium:vm("b", "host", {memory = "400M"})
provium:boot()
test("both answer", function(t)
  t:assert_eq(a:run("echo one").stdout, "one\n")
  t:assert_eq(b:run("echo two").stdout, "two\n")
end)
`

// TestTightMemory has files ask for more memory together than there is: none fails, since
// each can have what it wants when it is its turn. PROVIUM_TIGHT_RUNS is how often, once if
// it is not set, in full twice.
func TestTightMemory(t *testing.T) {
	t.Parallel()
	runs := fulltest.Of(1, 2)
	if text := os.Getenv("PROVIUM_TIGHT_RUNS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		runs = n
	}
	p := newProject(t, hostProfile)
	for i := range 3 {
		p.write(fmt.Sprintf("tests/%d.test.lua", i), twoGuests)
	}
	for range runs {
		if p.run("--mem", "900M").expect(0, "3 passed, 0 failed"); t.Failed() {
			return
		}
	}
}
