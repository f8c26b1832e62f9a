package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"provium/internal/luascan"
	"provium/internal/script/fixtures"
)

// bashWithoutPackage has the functions that cobra's script takes from the package
// bash-completion.
//
//go:embed bash_completion.sh
var bashWithoutPackage string

func (p *program) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	cmd := &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "Print a completion script for a shell",
		ValidArgs: shells,
		Long: `completion prints a script with which a shell completes commands, flags, paths, and
the names of profiles, tags, tests and fixtures of the project. It needs no package.`,
		Example: `  source <(provium completion bash)                 # in ~/.bashrc
  provium completion bash > /etc/bash_completion.d/provium
  provium completion zsh > "${fpath[1]}/_provium"
  provium completion fish > ~/.config/fish/completions/provium.fish`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(cmd, "expected one shell: bash, zsh or fish")
			}
			root, out := cmd.Root(), cmd.OutOrStdout()
			generators := map[string]func(io.Writer) error{
				"bash": func(w io.Writer) error {
					if err := root.GenBashCompletionV2(w, true); err != nil {
						return err
					}
					_, err := io.WriteString(w, bashWithoutPackage)
					return err
				},
				"zsh":  root.GenZshCompletion,
				"fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
			}
			generate, ok := generators[args[0]]
			if !ok {
				return usage(cmd, "unknown shell `%s`%s (valid: bash, zsh, fish)", args[0], didYouMean(args[0], shells))
			}
			return generate(out)
		},
	}
	finish(cmd)
	return cmd
}

// complete adds the completion of flags and arguments that name something of the project to
// a command and those below it.
func (p *program) complete(cmd *cobra.Command) {
	for name, propose := range map[string]cobra.CompletionFunc{
		"tag": p.completeTags, "no-tag": p.completeTags, "test": p.completeTests, "profile": p.completeProfiles(nil),
		"fixture": p.completeFixtures, "vmm": cobra.FixedCompletions([]string{"qemu", "local"}, noFiles),
		"config": cobra.FixedCompletions([]string{"toml"}, cobra.ShellCompDirectiveFilterFileExt),
	} {
		if _, known := cmd.GetFlagCompletionFunc(name); cmd.Flags().Lookup(name) != nil && !known {
			if err := cmd.RegisterFlagCompletionFunc(name, propose); err != nil {
				panic(err) // the flag is there
			}
		}
	}
	switch cmd.CommandPath() {
	case "provium fixture build", "provium fixture rebuild":
		cmd.ValidArgsFunction = p.completeFixtures
	case "provium", "provium list":
		cmd.ValidArgsFunction = p.completeChosen
	}
	for _, c := range cmd.Commands() {
		p.complete(c)
	}
}

const noFiles = cobra.ShellCompDirectiveNoFileComp

// configOf returns the value of --config.
func configOf(cmd *cobra.Command) string {
	if f := cmd.Flags().Lookup("config"); f != nil {
		return f.Value.String()
	}
	return ""
}

// completeProfiles proposes the profiles of the project.
func (p *program) completeProfiles(configPath *string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		path := configOf(cmd)
		if configPath != nil {
			path = *configPath
		}
		cfg, err := p.loadConfig(path, "", "")
		if err != nil {
			return nil, noFiles
		}
		return cfg.ProfileNames(), noFiles
	}
}

// completeFixtures proposes the fixtures of the project.
func (p *program) completeFixtures(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	cfg, err := p.loadConfig(configOf(cmd), "", "")
	if err != nil {
		return nil, noFiles
	}
	all, err := fixtures.All(cfg.Roots)
	if err != nil {
		return nil, noFiles
	}
	var names []string
	for _, f := range all {
		names = append(names, f.Name)
	}
	return names, noFiles
}

// testsOf returns the tests whose names the sources below some paths show, without running
// anything.
func testsOf(paths []string) (tests []luascan.Test) {
	for _, path := range paths {
		files, err := fixtures.FilesBelow(path, ".test.lua")
		if err != nil {
			continue
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err == nil {
				tests = append(tests, luascan.Tests(text).Tests...)
			}
		}
	}
	return tests
}

// projectTests returns the tests of the project.
func (p *program) projectTests(cmd *cobra.Command) []luascan.Test {
	cfg, err := p.loadConfig(configOf(cmd), "", "")
	if err != nil {
		return testsOf([]string{p.dir})
	}
	return testsOf(cfg.Roots)
}

// completeTags proposes the tags of the tests.
func (p *program) completeTags(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var tags []string
	for _, t := range p.projectTests(cmd) {
		switch v := t.Meta["tags"].(type) {
		case string:
			tags = append(tags, v)
		case []any:
			for _, one := range v {
				if tag, ok := one.(string); ok {
					tags = append(tags, tag)
				}
			}
		}
	}
	slices.Sort(tags)
	return proposals(slices.Compact(tags)), noFiles
}

// completeTests proposes the names of the tests.
func (p *program) completeTests(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return testNames(p.projectTests(cmd), ""), noFiles
}

// completeChosen completes paths and, behind `::`, the tests of a file.
func (p *program) completeChosen(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	path, _, ok := strings.Cut(word, "::")
	if !ok {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return testNames(testsOf([]string{p.absolute(path)}), path+"::"), noFiles
}

func testNames(tests []luascan.Test, prefix string) (names []string) {
	for _, t := range tests {
		if t.Name != "" {
			names = append(names, prefix+t.Name)
		}
	}
	return proposals(names)
}

// proposals leaves out texts that would not be one proposal: a tab begins a description.
func proposals(texts []string) []string {
	return slices.DeleteFunc(texts, func(s string) bool { return strings.ContainsAny(s, "\t\n\r") })
}

func (p *program) manCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "man DIR",
		Short: "Write manual pages, one for each command",
		Long: `man writes a manual page for each command to DIR, which is made when absent. Put them
where man finds them, for instance into ~/.local/share/man/man1.`,
		ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usage(cmd, "expected one directory")
			}
			dir := p.absolute(args[0])
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("man: %w", err)
			}
			n, err := writeManPages(cmd.Root(), dir)
			if err != nil {
				return fmt.Errorf("man: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "wrote %d pages to %s\n", n, args[0])
			return nil
		},
	}
	finish(cmd)
	return cmd
}

// writeManPages writes the pages of a command and those below it, and returns their number.
func writeManPages(cmd *cobra.Command, dir string) (n int, err error) {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			more, err := writeManPages(c, dir)
			if err != nil {
				return 0, err
			}
			n += more
		}
	}
	// Without a date, the same program writes the same pages.
	header := &doc.GenManHeader{Section: "1", Source: "Provium " + version, Manual: "Provium", Date: &time.Time{}}
	cmd.DisableAutoGenTag = true
	var page bytes.Buffer
	if err := doc.GenMan(cmd, header, &page); err != nil {
		return 0, err
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
	return n + 1, os.WriteFile(filepath.Join(dir, name), manPage(cmd, page.Bytes()), 0o644)
}

// manFlag is how the generator writes a flag: with its default, and without the name of its
// value.
var manFlag = regexp.MustCompile(`(?m)^(.*\\fB--([a-z-]+)\\fP)(\[?=.*)$`)

// manPage completes a generated page: flags get the names of their values.
func manPage(cmd *cobra.Command, page []byte) []byte {
	page = bytes.Replace(page, []byte(` "Jan 0001" `), []byte(` "" `), 1)
	return manFlag.ReplaceAllFunc(page, func(line []byte) []byte {
		m := manFlag.FindSubmatch(line)
		f := cmd.Flags().Lookup(string(m[2]))
		if f == nil {
			return line
		}
		if name, _ := pflag.UnquoteUsage(f); name != "" {
			return append(m[1], "="+name...)
		}
		return m[1]
	})
}
