package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"provium/internal/run"
)

func (p *program) listCommand() *cobra.Command {
	var f selectFlags
	var configPath string
	var fixtures bool
	what := newGroup("What")
	what.flags.BoolVar(&fixtures, "fixtures", false, "list fixture files, not test files")
	what.config(&configPath)
	cmd := &cobra.Command{
		Use:               "list [PATHS...] [FLAGS]",
		Short:             "List the test files that a run would take, one path per line",
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, paths []string) error {
			cfg, err := p.loadConfig(configPath, "", "")
			if err != nil {
				return err
			}
			sel, err := p.selection(&f, paths)
			if err != nil {
				return err
			}
			files, notice, err := run.List(cfg, sel, fixtures)
			if err != nil {
				return err
			}
			if len(files) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "provium: %s\n", notice)
			}
			for _, path := range files {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), path); err != nil {
					return fmt.Errorf("output: %w", err)
				}
			}
			return nil
		},
	}
	finish(cmd, what, f.group())
	return cmd
}
