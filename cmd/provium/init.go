package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"provium/internal/config"
)

// starter is what a new project consists of, by path.
var starter = [...]struct{ path, text string }{
	{config.FileName, `# The project. Paths are relative to this file.
[provium]
roots = ["tests"]

# A profile says what a guest boots. This one is automatic: a kernel that is
# found on this machine or downloaded, and a small busybox userland.
[profiles.host]
`},
	{filepath.Join("tests", "hello.test.lua"),
		`-- One guest for all tests of the file; it is shut down when the file ends.
local vm = provium:vm("hello", "host"):boot()

test("a command runs in the guest", function(t)
  local r = vm:run("uname -s"):assert_ok()
  t:assert_eq(r.stdout, "Linux\n")
end)

test("files go in and come out", function(t)
  vm:write_file("/tmp/greeting", "hello\n")
  t:assert_eq(vm:run("cat /tmp/greeting").stdout, "hello\n")
  t:assert_eq(vm:read_file("/tmp/greeting"), "hello\n")
end)
`},
}

func (p *program) initCommand() *cobra.Command {
	var force bool
	flags := newGroup("Flags")
	flags.flags.BoolVar(&force, "force", false, "overwrite files that exist")
	cmd := &cobra.Command{
		Use:   "init [DIR] [FLAGS]",
		Short: "Write a project that works: provium.toml and a passing test",
		Long: `init writes a project that works: provium.toml with an automatic profile, a test
that passes, and definitions of the Lua API for editors, as lsp-setup does.`,
		ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			switch len(args) {
			case 0:
			case 1:
				dir = args[0]
			default:
				return usage(cmd, "expected at most one directory, got %d", len(args))
			}
			if dir == "" {
				return usage(cmd, "expected a directory, got an empty path")
			}
			return p.initProject(cmd, dir, force)
		},
	}
	finish(cmd, flags)
	return cmd
}

func (p *program) initProject(cmd *cobra.Command, dir string, force bool) error {
	abs := p.absolute(dir)
	if !force {
		for _, f := range starter {
			_, err := os.Lstat(filepath.Join(abs, f.path))
			if err == nil {
				return fmt.Errorf("init: `%s` exists; nothing was written (--force overwrites)",
					filepath.Join(dir, f.path))
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("init: %w", err)
			}
		}
	}
	for _, f := range starter {
		path := filepath.Join(abs, f.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("init: %w", err)
		}
		if err := os.WriteFile(path, []byte(f.text), 0o644); err != nil {
			return fmt.Errorf("init: %w", err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "wrote %s\n", filepath.Join(dir, f.path))
	}
	merge, err := p.setUpEditor(cmd.OutOrStdout(), dir, false)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if merge {
		fmt.Fprintf(cmd.OutOrStdout(), "kept %s; `provium lsp-setup` shows what to add to it\n",
			filepath.Join(dir, editorFile))
	}
	next := "provium"
	if filepath.Clean(abs) != filepath.Clean(p.dir) {
		next = fmt.Sprintf("cd %s && provium", dir)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "now run: %s\n", next)
	return nil
}
