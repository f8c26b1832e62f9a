package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"provium/internal/config"
	"provium/internal/luacheck"
	"provium/internal/run"
	"provium/internal/script"
	"provium/internal/script/fixtures"
	"provium/internal/terminal"
)

func (p *program) checkCommand() *cobra.Command {
	var configPath string
	project := newGroup("Project")
	project.config(&configPath)
	cmd := &cobra.Command{
		Use:   "check [PATHS...] [FLAGS]",
		Short: "Find mistakes in tests without running them",
		Long: `check reads test files, fixtures and the modules that they require, and finds
mistakes without booting anything: syntax, unknown variables, methods, fields and
options, values of a wrong type, unknown profiles, fixtures and modules, and
duplicate tests. It prints PATH:LINE: TEXT for each. The exit code is 1 if there
are any, else 0.

PATHS are Lua files, and directories that are searched for *.test.lua and
*.fixture.lua; without any, the roots of provium.toml are searched.`,
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, paths []string) error {
			cfg, err := p.loadConfig(configPath, "", "", paths...)
			if err != nil {
				return err
			}
			found, n, err := p.check(cmd.Context(), cfg, paths)
			if err != nil {
				return err
			}
			for _, f := range found {
				fmt.Fprintln(cmd.OutOrStdout(), terminal.Escape(f.String()))
			}
			if len(found) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "provium: %d found in %d files\n", len(found), n)
				p.code = run.ExitFailed
			}
			return nil
		},
	}
	finish(cmd, project)
	return cmd
}

// check looks at the files of a project, and returns the number of files.
func (p *program) check(ctx context.Context, cfg *config.Config, paths []string) ([]luacheck.Finding, int, error) {
	files, err := p.checkedFiles(cfg, paths)
	if err != nil {
		return nil, 0, err
	}
	known, err := fixtures.All(cfg.Roots)
	if err != nil {
		return nil, 0, err
	}
	project := &luacheck.Project{
		Profiles: cfg.ProfileNames(), Roots: cfg.Roots, Compile: script.CheckSyntax,
		Show: func(path string) string {
			if rel, err := filepath.Rel(p.dir, path); err == nil && filepath.IsLocal(rel) {
				return rel
			}
			return path
		},
	}
	for _, f := range known {
		project.Fixtures = append(project.Fixtures, f.Name)
	}
	return project.Check(files)
}

// checkedFiles returns the test and fixture files below the paths, and the Lua files among
// the paths.
func (p *program) checkedFiles(cfg *config.Config, paths []string) ([]string, error) {
	if len(paths) == 0 {
		paths = cfg.Roots
	}
	if len(paths) == 0 {
		paths = []string{"."}
	}
	var files []string
	for _, path := range paths {
		path = p.absolute(path)
		if strings.HasSuffix(path, ".lua") {
			files = append(files, path)
			continue
		}
		for _, suffix := range []string{".test.lua", fixtures.Suffix} {
			below, err := fixtures.FilesBelow(path, suffix)
			if err != nil {
				return nil, fmt.Errorf("check: %w", err)
			}
			files = append(files, below...)
		}
	}
	if len(files) == 0 {
		return nil, errors.New("check: no *.test.lua and no *.fixture.lua files found")
	}
	return files, nil
}
