package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"provium/cmd/provium/internal/hostcheck"
	"provium/internal/config"
	"provium/internal/report"
	"provium/internal/run"
	"provium/internal/sched"
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

// selectFlags choose files.
type selectFlags struct {
	filter      string
	rerunFailed bool
	since       string
	shard       string
}

func (f *selectFlags) group() flagGroup {
	g := newGroup("Which files")
	g.flags.StringVar(&f.filter, "filter", "", "files whose path contains `STR`")
	g.flags.BoolVar(&f.rerunFailed, "rerun-failed", false, "files that failed in the last runs")
	g.flags.Var(value(&f.since, "path", parsePath), "since", "files modified after the file `PATH`")
	g.flags.Var(value(&f.shard, "shard", parseShard), "shard", "the I-th of N parts, `I/N`; `off` ignores the variables of CI services")
	return g
}

// shardOff is the value of --shard that ignores the environment.
const shardOff = "off"

func parseShard(text string) (string, error) {
	if text == shardOff {
		return text, nil
	}
	_, err := run.ParseShard(text)
	if err != nil {
		err = fmt.Errorf("%w, or `%s`", err, shardOff)
	}
	return text, err
}

// selection is what the flags and arguments choose.
func (p *program) selection(f *selectFlags, paths []string) (run.Selection, error) {
	s := run.Selection{
		WorkDir: p.dir, Paths: paths, Filter: f.filter, RerunFailed: f.rerunFailed, RerunState: p.rerunState(),
		Since: f.since,
	}
	if f.shard == shardOff {
		return s, nil
	}
	if f.shard != "" {
		var err error
		s.Shard, err = run.ParseShard(f.shard)
		return s, err
	}
	shard, source, err := run.ShardFromEnv(p.env)
	if err != nil {
		return s, err
	}
	if source != "" {
		fmt.Fprintf(p.stderr, "provium: shard %v, from %s (--shard off ignores it)\n", shard, source)
	}
	s.Shard = shard
	return s, nil
}

// runFlags are the flags of a run.
type runFlags struct {
	selectFlags
	config, kernel string

	filter run.TestFilter

	shuffle   shuffleFlag
	repeat    int
	untilFail bool
	failFast  bool
	keepGoing bool
	timeout   time.Duration
	cold      bool
	seed      *uint64

	memory     int64
	cpus, jobs int
	overcommit float64
	unchecked  bool // --no-preflight

	verbose, quiet, json bool
	saveEvents           string
}

func (f *runFlags) groups() []flagGroup {
	project := newGroup("Project")
	project.flags.Var(value(&f.config, "path", parsePath), "config", "the configuration is `PATH`, not the nearest provium.toml")
	project.flags.Var(value(&f.kernel, "path", parsePath), "kernel", "boot the kernel `PATH` in every profile")

	tests := newGroup("Which tests")
	tests.flags.Var(list(&f.filter.Tags, "tag", parseNonEmpty), "tag", "tests with the tag `T`; repeat for any of several")
	tests.flags.Var(list(&f.filter.NoTags, "tag", parseNonEmpty), "no-tag", "no tests with the tag `T`; may be repeated")
	tests.flags.Var(list(&f.filter.TagMeta, "meta", parseMeta), "tag-meta", "tests whose meta field K is V, `K=V`; may be repeated")
	tests.flags.Var(list(&f.filter.NoTagMeta, "meta", parseMeta), "no-tag-meta", "no tests whose meta field K is V, `K=V`; may be repeated")
	tests.flags.BoolVar(&f.filter.IncludeSlow, "include-slow", false, "run slow tests too")

	how := newGroup("How they run")
	shuffle := how.flags.VarPF(&f.shuffle, "shuffle", "", "random order; `[SEED]` repeats that of an earlier run")
	shuffle.NoOptDefVal = "true"
	how.flags.Var(value(&f.repeat, "count", parseCount), "repeat", "run the selection `N` times (default 1)")
	how.flags.BoolVar(&f.untilFail, "until-fail", false, "repeat until a failure, at most --repeat times if that is given")
	how.flags.BoolVar(&f.failFast, "fail-fast", false, "start no more files after the first that failed")
	how.flags.BoolVar(&f.keepGoing, "keep-going", false, "run all files (the default)")
	how.flags.Var(value(&f.timeout, "duration", config.ParseDuration), "timeout", "limit of each file, `DUR`: 90, 90s, 5m, 1h; 0 is none (default 300)")
	how.flags.Var(value(&f.seed, "seed", func(text string) (*uint64, error) { n, err := parseSeed(text); return &n, err }), "seed", "base of all that is random, `N`; drawn and shown if it is not given")
	how.flags.BoolVar(&f.cold, "cold", false, "boot every guest, take none from the boot cache")
	how.flags.BoolVar(&f.unchecked, "no-preflight", false, "skip the checks at the start")

	pool := newGroup("What they share")
	pool.flags.Var(value(&f.memory, "size", parseMemory), "mem", "memory for all guests, `SIZE` such as 6G (default 80 % of the RAM)")
	pool.flags.Var(value(&f.cpus, "count", parseCount), "cpus", "CPUs for all guests, `N` (default those online)")
	pool.flags.Var(value(&f.overcommit, "factor", parseFactor), "cpu-overcommit", "factor `F` on the CPUs, 0.5 to 8 (default 1)")
	pool.flags.Var(value(&f.jobs, "count", parseCount), "jobs", "at most `N` files at a time (default no limit)")

	output := newGroup("Output")
	output.flags.BoolVarP(&f.verbose, "verbose", "v", false, "every test, with its log")
	output.flags.BoolVarP(&f.quiet, "quiet", "q", false, "failures and the summary only")
	output.flags.BoolVar(&f.json, "json", false, "one JSON line per file on standard output")
	output.flags.Var(value(&f.saveEvents, "path", parsePath), "save-events", "save the event stream to the file `PATH`")
	return []flagGroup{project, f.selectFlags.group(), tests, how, pool, output}
}

const rootHelp = `provium boots Linux guests in QEMU and runs Lua tests in them.

PATHS are test files and directories that are searched for *.test.lua; without
any, the roots of provium.toml are searched. The exit code is 0 if no file
failed, 1 if one did, 2 if the run could not be carried out.`

func (p *program) rootCommand() *cobra.Command {
	f := &runFlags{}
	groups := f.groups()
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
	cmd.AddCommand(p.listCommand(), p.initCommand(), p.doctorCommand(), p.imageCommand(), p.completionCommand())
	cmd.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
	finish(cmd, groups...)
	return cmd
}

// finish gives a command its flags and the help that shows them in groups.
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

// completeFiles lets the shell complete paths.
func completeFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func (p *program) runCommand(cmd *cobra.Command, f *runFlags, paths []string) error {
	if err := exclusive(cmd, [2]string{"verbose", "quiet"}, [2]string{"fail-fast", "keep-going"}); err != nil {
		return err
	}
	if err := p.misspelt(cmd, paths); err != nil {
		return err
	}
	o, err := p.options(cmd, f, paths)
	if err != nil {
		return err
	}
	signals, stop := p.signals()
	defer stop()
	o.Signals = signals
	p.code, err = p.runTests(cmd.Context(), o)
	return err
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
	if hint := didYouMean(args[0], names); hint != "" {
		return usage(cmd, "`%s` is neither a file nor a directory nor a command%s (commands: %s)", args[0], hint, strings.Join(names, ", "))
	}
	return nil
}

// options makes the options of a run, after the checks at its start.
func (p *program) options(cmd *cobra.Command, f *runFlags, paths []string) (run.Options, error) {
	cfg, err := p.loadConfig(f.config, f.kernel)
	if err != nil {
		return run.Options{}, err
	}
	if !f.unchecked {
		if err := p.preflight(); err != nil {
			return run.Options{}, err
		}
	}
	sel, err := p.selection(&f.selectFlags, paths)
	if err != nil {
		return run.Options{}, err
	}
	o := run.Options{
		Config: cfg, Select: sel, Filter: f.filter,
		Repeat: f.repeat, UntilFail: f.untilFail, Jobs: f.jobs, FailFast: f.failFast, FileTimeout: run.DefaultFileTimeout,
		Memory: f.memory, CPUs: f.cpus, CPUOvercommit: p.overcommit(cmd, f), Cold: f.cold,
		JSON: f.json, Color: p.colors(), SaveEvents: p.absolute(f.saveEvents),
		Self: p.self, RunnerVerb: runnerVerb, ImageCache: p.imageCache(), TempBase: p.tempBase(), RerunState: p.rerunState(),
		Stdout: p.stdout, Stderr: p.stderr,
	}
	if cmd.Flags().Changed("timeout") {
		o.FileTimeout = f.timeout
	}
	switch {
	case f.verbose:
		o.Verbosity = report.Verbose
	case f.quiet:
		o.Verbosity = report.Quiet
	}
	if path, err := p.programs(nil).Look(hostcheck.QEMUProgram); err == nil {
		o.QEMU = path
	}
	return o, p.setSeed(&o, f)
}

// setSeed takes or draws the seed of the run.
func (p *program) setSeed(o *run.Options, f *runFlags) (err error) {
	switch {
	case f.seed != nil:
		o.Seed = *f.seed
	default:
		if o.Seed, err = drawSeed(); err != nil {
			return err
		}
		o.Notes = append(o.Notes, fmt.Sprintf("seed %d", o.Seed))
	}
	if o.Select.Shuffle = f.shuffle.on; f.shuffle.on {
		seed := o.Seed
		if f.shuffle.seed != nil {
			seed = *f.shuffle.seed
		}
		o.ShuffleSeed = seed
		o.Notes = append(o.Notes, fmt.Sprintf("shuffled with seed %d", seed))
	}
	return nil
}

// overcommit holds the factor within its bounds, and says so. 0 is not given.
func (p *program) overcommit(cmd *cobra.Command, f *runFlags) float64 {
	if !cmd.Flags().Changed("cpu-overcommit") {
		return 0
	}
	held := math.Min(math.Max(f.overcommit, sched.MinOvercommit), sched.MaxOvercommit)
	if held != f.overcommit {
		fmt.Fprintf(p.stderr, "provium: --cpu-overcommit %v is held within %v to %v: %v\n", f.overcommit, sched.MinOvercommit, sched.MaxOvercommit, held)
	}
	return held
}

// preflight refuses a run that cannot work on this machine.
func (p *program) preflight() error {
	failed := hostcheck.Preflight(hostcheck.Host{
		Root: os.DirFS("/"), UID: p.uid, Programs: p.programs(nil), TempBase: p.tempBase(),
	})
	if len(failed) == 0 {
		return nil
	}
	var lines []string
	for _, r := range failed {
		lines = append(lines, fmt.Sprintf("%s: %s: %s; %s", r.Name, r.Found, r.Effect, r.Remedy))
	}
	return fmt.Errorf("this machine cannot run guests:\n  %s\n(`provium doctor` tells more, --no-preflight skips these checks)", strings.Join(lines, "\n  "))
}

// profile looks a profile up; without a name it is the first by sorted name.
func profile(cfg *config.Config, name string) (config.Profile, error) {
	p, ok := cfg.Profiles[name]
	if ok {
		return p, nil
	}
	names := cfg.ProfileNames()
	if len(names) == 0 {
		return p, fmt.Errorf("unknown profile `%s`: %s defines none; add `[profiles.%s]`", name, filepath.Base(cfg.Path), name)
	}
	return p, fmt.Errorf("unknown profile `%s`%s (%s has: %s)", name, didYouMean(name, slices.Clone(names)), filepath.Base(cfg.Path), strings.Join(names, ", "))
}

// programs are those on the user's PATH; start may be nil if none is run.
func (p *program) programs(start func(ctx context.Context, path string, args ...string) ([]byte, error)) hostcheck.PathPrograms {
	return hostcheck.PathPrograms{Path: p.getenv("PATH"), Start: start}
}
