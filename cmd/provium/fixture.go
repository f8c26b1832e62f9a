package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"provium/cmd/provium/internal/listing"
	"provium/internal/fixture"
	"provium/internal/run"
)

func (p *program) fixtureCommand() *cobra.Command {
	return commandGroup("fixture", "List, build and drop the cached snapshots of fixtures", p.fixtureListCommand(),
		p.fixtureBuildCommand("build", "Build a fixture unless it has a valid entry", false),
		p.fixtureBuildCommand("rebuild", "Drop all entries of a fixture and build it", true), p.fixtureCleanCommand(),
		p.fixtureStaleCommand())
}

// withWorkshop completes a command that may boot guests. The arguments are test files
// if argsAreFiles. check looks at the names that were given, before anything is built.
func (p *program) withWorkshop(cmd *cobra.Command, argsAreFiles bool, check func(o *run.Options, args []string) error,
	do func(ctx context.Context, out io.Writer, o *run.Options, w *run.Workshop, args []string) error) *cobra.Command {
	var f runFlags
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var paths []string
		if argsAreFiles {
			paths = args
		}
		o, err := p.options(cmd, &f, paths)
		if err != nil {
			return err
		}
		if err := check(&o, args); err != nil {
			return err
		}
		if p.again != nil {
			p.code, err = p.again()
			return err
		}
		ctx, done := p.interruptible(cmd.Context())
		defer done()
		w, err := run.OpenWorkshop(ctx, o)
		if err != nil {
			return err
		}
		defer w.Close()
		return do(ctx, cmd.OutOrStdout(), &o, w, args)
	}
	project := newGroup("Project")
	project.config(&f.config)
	finish(cmd, project)
	return cmd
}

// withCache completes a command that looks at the cache as it is.
func (p *program) withCache(cmd *cobra.Command, do func(out io.Writer, cache *fixture.Cache) error) *cobra.Command {
	var config string
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := p.loadConfig(config, "", "")
		if err != nil {
			return err
		}
		dir, err := p.caches().fixtures(cfg.CacheDir)
		if err != nil {
			return err
		}
		return do(cmd.OutOrStdout(), &fixture.Cache{Dir: dir})
	}
	project := newGroup("Project")
	project.config(&config)
	finish(cmd, project)
	return cmd
}

func (p *program) fixtureListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list [FLAGS]", Short: "List the entries of the cache", Args: noArguments}
	return p.withCache(cmd, func(out io.Writer, cache *fixture.Cache) error {
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
			fmt.Fprintf(out, "%12s  %-3s  %s  %s\n", listing.MiB(e.Size), kind, e.Key, name)
		}
		_, err = fmt.Fprintf(out, "%d entries, %s\n", len(all), listing.MiB(total))
		return err
	})
}

func (p *program) fixtureCleanCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "clean [FLAGS]", Short: "Empty the cache", Args: noArguments}
	return p.withCache(cmd, func(out io.Writer, cache *fixture.Cache) error {
		n, err := cache.Clean()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "removed %d entries from %s\n", n, cache.Dir)
		return err
	})
}

func (p *program) fixtureBuildCommand(verb, short string, drop bool) *cobra.Command {
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
	}
	known := func(o *run.Options, args []string) error {
		_, err := o.Source(args[0])
		return err
	}
	return p.withWorkshop(cmd, false, known, func(ctx context.Context, out io.Writer, o *run.Options, w *run.Workshop,
		args []string) error {
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
		_, err = fmt.Fprintf(out, "%s: %s\n", word, s.Name)
		return err
	})
}

func (p *program) fixtureStaleCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "stale [FLAGS]", Short: "List the fixtures without a valid entry, and why",
		Args: noArguments}
	noNames := func(*run.Options, []string) error { return nil }
	return p.withWorkshop(cmd, false, noNames, func(ctx context.Context, out io.Writer, _ *run.Options, w *run.Workshop,
		_ []string) error {
		all, err := w.Stale(ctx)
		if err != nil {
			return err
		}
		for _, s := range all {
			fmt.Fprintf(out, "%s: %s\n", s.Name, s.Reason)
		}
		_, err = fmt.Fprintf(out, "%d stale fixture(s)\n", len(all))
		return err
	})
}

func (p *program) prepareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "prepare [PATHS...] [FLAGS]",
		Short:             "Run the profiles' builds, fill the boot cache, build the fixtures that tests name",
		ValidArgsFunction: completeFiles,
	}
	exist := func(o *run.Options, _ []string) error {
		_, err := run.Select(o.Config, o.Select, 0)
		return err
	}
	return p.withWorkshop(cmd, true, exist, func(ctx context.Context, out io.Writer, _ *run.Options, w *run.Workshop,
		_ []string) error {
		return w.Prepare(ctx, func(format string, values ...any) {
			fmt.Fprintf(out, format+"\n", values...)
		})
	})
}
