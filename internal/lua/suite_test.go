package lua

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestOfficialSuite runs the files of a checkout of Lua's own tests, each in a
// State of its own, with the flags for portable and short runs. LUA_TESTS is
// the directory. docs/lua.md has the outcome.
func TestOfficialSuite(t *testing.T) {
	dir := os.Getenv("LUA_TESTS")
	if dir == "" {
		t.Skip("LUA_TESTS names no directory with Lua's test suite")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.lua"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", dir, err)
	}
	t.Chdir(dir)
	for _, path := range files {
		name := filepath.Base(path)
		switch name {
		case "all.lua", "bwcoercion.lua", "tracegc.lua":
			continue // no tests by themselves
		case "heavy.lua":
			continue // uses up all memory of the machine
		}
		t.Run(name, func(t *testing.T) {
			s := newState(t, Config{Roots: []string{dir}, Stdout: nowhere{}})
			for _, flag := range []string{"_port", "_soft", "_nomsg"} {
				must(s.SetGlobal(flag, true))
			}
			fn, err := s.LoadFile(path, name)
			if err == nil {
				_, err = s.Call(bg, fn)
			}
			if err != nil {
				t.Error(err)
				var e *Error
				if errors.As(err, &e) {
					t.Log(e.Traceback)
				}
			}
		})
	}
}
