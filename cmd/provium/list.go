package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"provium/internal/choose"
	"provium/internal/run"
	"provium/internal/terminal"
)

func (p *program) listCommand() *cobra.Command {
	var f selectFlags
	var filter choose.Filter
	var configPath string
	var fixtures, tests bool
	what := newGroup("What")
	what.flags.BoolVar(&fixtures, "fixtures", false, "list fixture files, not test files")
	what.flags.BoolVar(&tests, "tests", false, "list tests: path and line, name and tags, with tabs between them")
	what.config(&configPath)
	which := testGroup(&filter)
	cmd := &cobra.Command{
		Use:               "list [PATHS...] [FLAGS]",
		Short:             "List the test files that a run would take, one path per line, or their tests",
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if err := exclusive(cmd, [2]string{"fixtures", "tests"}); err != nil {
				return err
			}
			cfg, err := p.loadConfig(configPath, "", "", paths...)
			if err != nil {
				return err
			}
			sel, err := p.selection(cmd.Context(), &f, paths)
			if err != nil {
				return err
			}
			o := run.Options{Config: cfg, Select: sel, Filter: filter, Self: p.self, RunnerVerb: runnerVerb,
				Version: p.identity(), TempBase: p.tempBase(), Stdout: p.stdout, Stderr: p.stderr}
			if tests {
				return listTests(cmd, o)
			}
			files, notice, err := run.List(cmd.Context(), o, fixtures)
			if err != nil {
				return err
			}
			return printList(cmd, files, notice)
		},
	}
	finish(cmd, what, f.group(), which)
	return cmd
}

// listTests prints PATH:LINE, name and tags of each test.
func listTests(cmd *cobra.Command, o run.Options) error {
	tests, notice, err := run.ListTests(cmd.Context(), o)
	if err != nil {
		return err
	}
	var lines []string
	for _, t := range tests {
		fields := []string{fmt.Sprintf("%s:%d", t.Path, t.Line), oneField(t.Name)}
		if len(t.Tags) > 0 {
			fields = append(fields, oneField(strings.Join(t.Tags, ",")))
		}
		lines = append(lines, strings.Join(fields, "\t"))
	}
	return printList(cmd, lines, notice)
}

// oneField returns a text without what would end its field.
func oneField(text string) string {
	return strings.NewReplacer("\t", " ", "\n", " ").Replace(terminal.Escape(text))
}

// printList prints lines. Without any, it prints the notice why.
func printList(cmd *cobra.Command, lines []string, notice string) error {
	if len(lines) == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "provium: %s\n", notice)
		return nil
	}
	if _, err := io.WriteString(cmd.OutOrStdout(), strings.Join(lines, "\n")+"\n"); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}
