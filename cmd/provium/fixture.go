package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"provium/internal/fixture"
	"provium/internal/run"
)

func (p *program) fixtureCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fixture COMMAND",
		Short: "List, build and drop the cached snapshots of fixtures",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, "expected a command: list, build, rebuild, clean or stale")
		},
	}
	cmd.AddCommand(p.fixtureListCommand(), p.fixtureBuildCommand("build", "Build a fixture unless it has a valid entry", false),
		p.fixtureBuildCommand("rebuild", "Drop all entries of a fixture and build it", true), p.fixtureCleanCommand(), p.fixtureStaleCommand())
	finish(cmd)
	return cmd
}

// projectFlags are those that choose the project.
type projectFlags struct{ config, kernel string }

func (f *projectFlags) group() flagGroup {
	g := newGroup("Project")
	g.flags.Var(value(&f.config, "path", parsePath), "config", "the configuration is `PATH`, not the nearest provium.toml")
	return g
}

// workshop opens one for a command that may boot guests, until do returns.
func (p *program) workshop(cmd *cobra.Command, f *projectFlags, paths []string, do func(ctx context.Context, o *run.Options, w *run.Workshop) error) error {
	o, err := p.options(cmd, &runFlags{config: f.config, kernel: f.kernel}, paths)
	if err != nil {
		return err
	}
	ctx, done := p.interruptible(cmd.Context())
	defer done()
	w, err := run.OpenWorkshop(ctx, o)
	if err != nil {
		return err
	}
	defer w.Close()
	return do(ctx, &o, w)
}

func (p *program) fixtureCache(f *projectFlags) (*fixture.Cache, error) {
	cfg, err := p.loadConfig(f.config, "")
	if err != nil {
		return nil, err
	}
	return &fixture.Cache{Dir: cfg.CacheDir}, nil
}

// mib is a size as listings show it.
func mib(n int64) string { return fmt.Sprintf("%.2fMiB", float64(n)/(1<<20)) }

func (p *program) fixtureListCommand() *cobra.Command {
	var f projectFlags
	cmd := &cobra.Command{
		Use:   "list [FLAGS]",
		Short: "List the entries of the cache",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := p.fixtureCache(&f)
			if err != nil {
				return err
			}
			all, err := cache.List()
			if err != nil {
				return err
			}
			var total int64
			for _, e := range all {
				total += e.Size
				name, kind := e.Name, string(e.Kind)
				if name == "" {
					name, kind = "(its record cannot be read)", "?"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%12s  %-3s  %s  %s\n", mib(e.Size), kind, e.Key, name)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d entries, %s\n", len(all), mib(total))
			return err
		},
	}
	finish(cmd, f.group())
	return cmd
}

func (p *program) fixtureBuildCommand(verb, short string, drop bool) *cobra.Command {
	var f projectFlags
	cmd := &cobra.Command{
		Use:   verb + " NAME [FLAGS]",
		Short: short,
		Long:  short + ".\n\nNAME is the name of a fixture or the path of its file.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(cmd, "expected the name of one fixture, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.workshop(cmd, &f, nil, func(ctx context.Context, o *run.Options, w *run.Workshop) error {
				s, err := o.Source(args[0])
				if err != nil {
					return err
				}
				if drop {
					if err := w.Drop(s); err != nil {
						return err
					}
				}
				built, err := w.Build(ctx, s)
				if err != nil {
					return err
				}
				word := "built"
				if !built {
					word = "already built"
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", word, s.Name)
				return err
			})
		},
	}
	finish(cmd, f.group())
	return cmd
}

func (p *program) fixtureCleanCommand() *cobra.Command {
	var f projectFlags
	cmd := &cobra.Command{
		Use:   "clean [FLAGS]",
		Short: "Empty the cache",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := p.fixtureCache(&f)
			if err != nil {
				return err
			}
			n, err := cache.Clean()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed %d entries from %s\n", n, cache.Dir)
			return err
		},
	}
	finish(cmd, f.group())
	return cmd
}

func (p *program) fixtureStaleCommand() *cobra.Command {
	var f projectFlags
	cmd := &cobra.Command{
		Use:   "stale [FLAGS]",
		Short: "List the fixtures without a valid entry, and why",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.workshop(cmd, &f, nil, func(ctx context.Context, _ *run.Options, w *run.Workshop) error {
				all, err := w.Stale(ctx)
				if err != nil {
					return err
				}
				for _, s := range all {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", s.Name, s.Reason)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d stale fixture(s)\n", len(all))
				return err
			})
		},
	}
	finish(cmd, f.group())
	return cmd
}

func (p *program) prepareCommand() *cobra.Command {
	var f projectFlags
	cmd := &cobra.Command{
		Use:               "prepare [PATHS...] [FLAGS]",
		Short:             "Run the profiles' builds, fill the boot cache, build the fixtures that tests name",
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, paths []string) error {
			return p.workshop(cmd, &f, paths, func(ctx context.Context, _ *run.Options, w *run.Workshop) error {
				return w.Prepare(ctx, func(format string, values ...any) {
					fmt.Fprintf(cmd.OutOrStdout(), format+"\n", values...)
				})
			})
		},
	}
	finish(cmd, f.group())
	return cmd
}
