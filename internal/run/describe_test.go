package run

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"provium/internal/event"
)

func TestDescribe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.test.lua")
	if c := describe("a.test.lua", path); c.Path != "a.test.lua" || c.Abs != path || c.FixtureRefs == nil ||
		c.Claim != nil {
		t.Errorf("missing: %+v", c)
	}
	if err := os.WriteFile(path, []byte("provium:claim({cpus = 2})\nprovium:vm_fixture('x')"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := Candidate{Path: "a.test.lua", Abs: path, FixtureRefs: []string{"x"}, Claim: &event.Amount{CPUs: 2}}
	if c := describe("a.test.lua", path); !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v", c)
	}
}
