package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/lua"
)

func (c *cli) read(path string) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, path))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

func (c *cli) write(path, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, path), []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

func TestLSPSetup(t *testing.T) {
	const types = "proj/.provium-meta/types.lua"
	p := newCLI(t, nil)
	code, stdout, stderr := p.run("lsp-setup", "proj")
	if code != 0 || stdout != "wrote proj/.provium-meta/types.lua\nwrote proj/.luarc.json\n" || stderr != "" {
		t.Fatalf("%d, %q, %q", code, stdout, stderr)
	}
	written := p.read(types)
	if !strings.HasPrefix(written, "---@meta\n") || !strings.Contains(written, "---@class provium.vm.run.options\n") {
		t.Errorf("%.300s", written)
	}
	if p.read("proj/.luarc.json") != editorPart {
		t.Error(p.read("proj/.luarc.json"))
	}

	if code, stdout, _ = p.run("lsp-setup", "proj"); code != 0 || strings.Contains(stdout, "luarc") {
		t.Errorf("once more: %d, %q", code, stdout)
	}

	p.write("proj/.luarc.json", `{"a": 1}`)
	p.write(types, written+"-- mine\n")
	code, stdout, _ = p.run("lsp-setup", "proj")
	if want := "kept proj/.provium-meta/types.lua, which was edited by hand\nproj/.luarc.json exists and was kept; " +
		"add this to it (--force replaces it):\n" + editorPart; code != 1 || stdout != want {
		t.Errorf("%d\n%s\nwant\n%s", code, stdout, want)
	}
	if p.read(types) != written+"-- mine\n" || p.read("proj/.luarc.json") != `{"a": 1}` {
		t.Error("something was replaced")
	}

	p.write("proj/.luarc.json", `{"workspace.library": ["x", ".provium-meta"]}`)
	if code, stdout, _ = p.run("lsp-setup", "proj"); code != 0 {
		t.Errorf("merged: %d, %q", code, stdout)
	}
	if code, stdout, _ = p.run("lsp-setup", "--force", "proj"); code != 0 || p.read(types) != written ||
		p.read("proj/.luarc.json") != editorPart {
		t.Errorf("--force: %d, %q", code, stdout)
	}

	// Definitions of an older version are replaced.
	p.write(types, "---@meta\n"+sumLine+typesSum("---@meta\n")+"\n")
	if code, _, _ = p.run("lsp-setup", "proj"); code != 0 || p.read(types) != written {
		t.Errorf("older definitions: %d", code)
	}
	p.write("file", "")
	if code, _, stderr = p.run("lsp-setup", "file"); code != 2 || !strings.Contains(stderr, "lsp-setup: ") {
		t.Errorf("%d, %s", code, stderr)
	}
}

// The definitions are Lua.
func TestTypesAreLua(t *testing.T) {
	state, err := lua.New(lua.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	if _, err := state.LoadString(typesText(), "types"); err != nil {
		t.Error(err)
	}
}

func TestInitKeepsTheEditorsConfiguration(t *testing.T) {
	p := newCLI(t, map[string]string{".luarc.json": "{}"})
	code, stdout, stderr := p.run("init")
	if code != 0 || !strings.Contains(stdout, "kept .luarc.json; `provium lsp-setup` shows what to add to it\n") {
		t.Errorf("%d, %s, %s", code, stdout, stderr)
	}
}

func TestHelpAPI(t *testing.T) {
	p := newCLI(t, nil)
	for _, c := range []struct{ args, stdout string }{
		{"help api", "  worker        Workers\n"},
		{"help api vm:run", "vm:run(command, arguments?) -> run_result\n"},
		{"help api vm.run", "vm:run(command, arguments?) -> run_result\n"},
		{"help api disk", "  disk:power_cut(opts?)\n"},
		{"help api assert_eq", "t:assert_eq(a, b, msg?)\n"},
		{"help api close", "`close` is in several classes:\n  co.close\n  vm:close\n"},
		{"help api provium:vm", "lab:vm(name, profile?, opts?) -> vm\n"},
	} {
		code, stdout, stderr := p.run(strings.Fields(c.args)...)
		if code != 0 || !strings.Contains(stdout, c.stdout) || stderr != "" {
			t.Errorf("%s: %d\n%s%s\nwant %s", c.args, code, stdout, stderr, c.stdout)
		}
	}
	for _, c := range []struct{ args, stderr string }{
		{"help api vm:rum", "unknown name `vm:rum`; did you mean `vm:run`?"},
		{"help api asert_eq", "unknown name `asert_eq`; did you mean `t:assert_eq`?"},
		{"help api vmm", "unknown name `vmm`; did you mean `vm`?"},
		{"help api xyzzyxyzzy", "unknown name `xyzzyxyzzy` (`provium help api` lists all)"},
		{"help apis", "unknown command `apis`"},
	} {
		code, stdout, stderr := p.run(strings.Fields(c.args)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%s: %d\n%s%s\nwant %s", c.args, code, stdout, stderr, c.stderr)
		}
	}
}
