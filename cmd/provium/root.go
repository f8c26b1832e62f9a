package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"provium/cmd/provium/internal/flagtext"
	"provium/cmd/provium/internal/hostcheck"
	"provium/cmd/provium/internal/share"
	"provium/internal/config"
	"provium/internal/luaapi"
	"provium/internal/run"
	"provium/internal/shard"
)

// version is the release; the build adds the commit it was made from.
const version = "0.1.0"

// flagGroup is a part of the help.
type flagGroup struct {
	title string
	flags *pflag.FlagSet
}

func newGroup(title string) flagGroup {
	fs := pflag.NewFlagSet(title, pflag.ContinueOnError)
	fs.SortFlags = false
	return flagGroup{title, fs}
}

// config adds --config.
func (g flagGroup) config(path *string) {
	parsed := value(path, "path", flagtext.Path)
	g.flags.Var(parsed, "config", "the configuration is `PATH`, not the nearest provium.toml")
}

// selectFlags choose files.
type selectFlags struct {
	filter      string
	rerunFailed bool
	since       string
	shard       string
	durations   string
}

func (f *selectFlags) group() flagGroup {
	g := newGroup("Which files")
	g.flags.StringVar(&f.filter, "filter", "", "files whose path contains `STR`")
	g.flags.BoolVar(&f.rerunFailed, "rerun-failed", false, "tests that failed in the last runs")
	g.flags.Var(value(&f.since, "path", flagtext.Path), "since", "files modified after the file `PATH`")
	g.flags.Var(value(&f.shard, "shard", parseShard), "shard",
		"the I-th of N parts, `I/N`; `off` ignores the variables of CI services")
	g.flags.Var(value(&f.durations, "path", flagtext.Path), "durations-file",
		"balance the parts by the durations in `FILE`, which `provium report --save-durations` writes, "+
			"or docker://HOST/NAME@DIGEST")
	return g
}

// shardOff is the value of --shard that ignores the environment.
const shardOff = "off"

func parseShard(text string) (string, error) {
	if text == shardOff {
		return text, nil
	}
	_, err := shard.Parse(text)
	if err != nil {
		err = fmt.Errorf("%w, or `%s`", err, shardOff)
	}
	return text, err
}

// selection returns what the flags and arguments choose.
func (p *program) selection(ctx context.Context, f *selectFlags, paths []string) (run.Selection, error) {
	s := run.Selection{
		WorkDir: p.dir, Paths: paths, Filter: f.filter, RerunFailed: f.rerunFailed, RerunState: p.rerunState(),
		Since: f.since,
	}
	var err error
	if s.Durations, err = share.ReadDurations(ctx, f.durations, p.dir); err != nil {
		return s, fmt.Errorf("--durations-file: %w", err)
	}
	if f.shard == shardOff {
		return s, nil
	}
	if path := shard.StatusFile(p.env); path != "" {
		file, err := os.OpenFile(p.absolute(path), os.O_WRONLY|os.O_CREATE, 0o666)
		if err != nil {
			return s, fmt.Errorf("TEST_SHARD_STATUS_FILE: %w", err)
		}
		file.Close()
	}
	if f.shard != "" {
		s.Shard, err = shard.Parse(f.shard)
		return s, err
	}
	part, source, err := shard.FromEnv(p.env)
	if err != nil {
		return s, err
	}
	if source != "" {
		fmt.Fprintf(p.stderr, "provium: shard %v, from %s (--shard off ignores it)\n", part, source)
	}
	s.Shard = part
	return s, nil
}

const rootHelp = `provium boots Linux guests in QEMU and runs Lua tests in them.

PATHS are test files and directories that are searched for *.test.lua; without
any, the roots of provium.toml are searched. The exit code is 0 if no file
failed, 1 if one did, 2 if the run could not be carried out.`

func (p *program) rootCommand() *cobra.Command {
	f := &runFlags{}
	groups := p.runGroups(f)
	cmd := &cobra.Command{
		Use:   "provium [PATHS...] [FLAGS]",
		Long:  rootHelp,
		Args:  cobra.ArbitraryArgs,
		RunE:  func(cmd *cobra.Command, args []string) error { return p.runCommand(cmd, f, args) },
		Short: "Boot Linux guests and run Lua tests in them",

		Version:           fmt.Sprintf("%s (%s)", version, commit()),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		ValidArgsFunction: completeFiles,
	}
	cmd.SetVersionTemplate("provium {{.Version}}\n")
	cmd.SetFlagErrorFunc(flagError)
	cmd.AddCommand(p.listCommand(), p.initCommand(), p.doctorCommand(), p.imageCommand(), p.fixtureCommand(),
		p.bootsCommand(), p.cacheCommand(), p.attachCommand(), p.replayCommand(), p.debugCommand(),
		p.verifyDeterminismCommand(),
		p.prepareCommand(), p.reportCommand(), p.coverageCommand(), p.completionCommand(), p.execCommand(),
		p.shellCommand(), p.consoleCommand(), p.replCommand())
	cmd.AddCommand(p.lspSetupCommand(), p.checkCommand(), p.manCommand())
	cmd.SetHelpCommand(helpCommand())
	finish(cmd, groups...)
	p.complete(cmd)
	return cmd
}

// commandGroup is a command that only has commands of its own.
func commandGroup(name, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			var names []string
			for _, c := range cmd.Commands() {
				names = append(names, c.Name())
			}
			valid := strings.Join(names, ", ")
			if len(args) == 0 {
				return usage(cmd, "expected one of %s", valid)
			}
			return usage(cmd, "unknown command `%s %s`%s (valid: %s)", name, args[0], didYouMean(args[0], names), valid)
		},
	}
	cmd.AddCommand(commands...)
	finish(cmd)
	return cmd
}

// helpCommand is `provium help COMMAND`, the same as `provium COMMAND --help`, and
// `provium help api NAME`, which describes the Lua API.
func helpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "help [COMMAND|api [NAME]]",
		Short:             "Show the help of a command, or what a name of the Lua API means",
		ValidArgsFunction: completeHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] == "api" {
				return helpAPI(cmd, args[1:])
			}
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usage(cmd, "unknown command `%s`", strings.Join(args, " "))
			}
			return found.Help()
		},
		Example: `  provium help exec
  provium help api
  provium help api vm:run`,
	}
	finish(cmd)
	return cmd
}

// finish adds to a command its flags and the help that shows them in groups.
func finish(cmd *cobra.Command, groups ...flagGroup) {
	for _, g := range groups {
		cmd.Flags().AddFlagSet(g.flags)
	}
	general := newGroup("General")
	general.flags.BoolP("help", "h", false, "show this help")
	if cmd.Version != "" {
		general.flags.Bool("version", false, "show the version")
	}
	cmd.Flags().AddFlagSet(general.flags)
	groups = append(groups, general)
	cmd.DisableFlagsInUseLine = true
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(cmd, groups) })
}

func writeHelp(cmd *cobra.Command, groups []flagGroup) {
	out := cmd.OutOrStdout()
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	fmt.Fprintf(out, "%s\n\nUsage:\n  %s\n", text, cmd.UseLine())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(out, "  %s COMMAND ...\n\nCommands:\n", cmd.CommandPath())
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				fmt.Fprintf(out, "  %-*s  %s\n", 12, c.Name(), c.Short)
			}
		}
	}
	for _, g := range groups {
		if g.flags.HasFlags() {
			fmt.Fprintf(out, "\n%s:\n%s", g.title, g.flags.FlagUsages())
		}
	}
	if cmd.Example != "" {
		fmt.Fprintf(out, "\nExamples:\n%s\n", cmd.Example)
	}
}

// completeHelp completes commands and names of the Lua API.
func completeHelp(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	switch {
	case len(args) == 1 && args[0] == "api":
		return luaapi.Names(), cobra.ShellCompDirectiveNoFileComp
	case len(args) > 0:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := []string{"api"}
	for _, c := range cmd.Root().Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeDirs lets the shell complete directories.
func completeDirs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeFiles lets the shell complete paths.
func completeFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// misspelt reports an argument that is no path but nearly a command.
func (p *program) misspelt(cmd *cobra.Command, args []string) error {
	if len(args) == 0 || strings.ContainsAny(args[0], "/.") {
		return nil
	}
	if _, err := os.Stat(p.absolute(args[0])); err == nil {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	hint := didYouMean(args[0], names)
	switch args[0] {
	case "test", "tests", "run": // as other programs have
		hint = "; without a command, `provium` runs tests"
	}
	if hint == "" { // what looks for files says that it is not there
		return nil
	}
	return usage(cmd, "`%s` is neither a file nor a directory nor a command%s (commands: %s)", args[0], hint,
		strings.Join(names, ", "))
}

// profile looks a profile up; without a name it is the first by sorted name.
func profile(cfg *config.Config, name string) (config.Profile, error) {
	p, ok := cfg.Profiles[name]
	if ok {
		return p, nil
	}
	names := cfg.ProfileNames()
	if len(names) == 0 {
		return p, fmt.Errorf("unknown profile `%s`: %s defines none; add `[profiles.%s]`", name,
			filepath.Base(cfg.Path), name)
	}
	return p, fmt.Errorf("unknown profile `%s`%s (%s has: %s)", name, didYouMean(name, slices.Clone(names)),
		filepath.Base(cfg.Path), strings.Join(names, ", "))
}

// programs returns those on the user's PATH; start may be nil if none is run.
func (p *program) programs(start func(ctx context.Context, path string, args ...string) ([]byte,
	error)) hostcheck.PathPrograms {
	return hostcheck.PathPrograms{Path: p.getenv("PATH"), Start: start}
}
