package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"provium/cmd/provium/internal/coveragefile"
	"provium/cmd/provium/internal/debug"
	"provium/cmd/provium/internal/explore"
	"provium/cmd/provium/internal/flagtext"
	"provium/cmd/provium/internal/hostcheck"
	"provium/cmd/provium/internal/ksm"
	"provium/cmd/provium/internal/live"
	"provium/cmd/provium/internal/share"
	"provium/cmd/provium/internal/twice"
	"provium/internal/artifacts"
	"provium/internal/cachedir"
	"provium/internal/choose"
	"provium/internal/config"
	"provium/internal/proc"
	"provium/internal/report"
	"provium/internal/run"
	"provium/internal/run/evidence"
	"provium/internal/sched"
	"provium/internal/sharedcache"
	"provium/internal/terminal"
)

// runFlags are the flags of a run.
type runFlags struct {
	selectFlags
	config, kernel, qemu string
	picked               []string // --profile

	filter     choose.Filter
	allowEmpty bool

	shuffle       shuffleFlag
	repeat        int
	retries       int
	untilFail     bool
	watch         bool
	failFast      bool
	keepGoing     bool
	pause         bool // --pause-on-failure
	rewind        bool
	timeout       time.Duration
	cold          bool
	shared        *sharedcache.Cache // --cache
	seed          *uint64
	deterministic bool
	disturb       bool
	record        bool
	explore       int

	memory     int64
	cpus, jobs int
	overcommit float64
	unchecked  bool // --no-preflight
	noKSM      bool
	local      bool // --vmm local

	verbose, quiet, json bool
	events               eventFlags
	durations            *int
	junit, tap, ktap     string
	artifacts            string
	dump                 bool
	replayed             *artifacts.Record // nil: the run is no replay
}

func (p *program) runGroups(f *runFlags) []flagGroup {
	project := newGroup("Project")
	project.config(&f.config)
	project.flags.Var(value(&f.kernel, "path", flagtext.Path), "kernel", "boot the kernel `PATH` in every profile")

	project.flags.StringSliceVar(&f.picked, "profile", nil,
		"of a matrix, boot the profile `P` where tests name the matrix (default its first)")
	project.flags.Var(value(&f.qemu, "path", flagtext.Path), "qemu", "run guests of every profile with the QEMU `PATH`")

	tests := testGroup(&f.filter)
	tests.flags.BoolVar(&f.allowEmpty, "allow-empty", false,
		"tests that are asked for by name, line or tag need not exist")

	how := newGroup("How they run")
	shuffle := how.flags.VarPF(&f.shuffle, "shuffle", "", "random order; `[SEED]` repeats that of an earlier run")
	shuffle.NoOptDefVal = "true"
	how.flags.Var(value(&f.repeat, "count", flagtext.Count), "repeat", "run the selection `N` times (default 1)")
	how.flags.Var(value(&f.retries, "count", flagtext.Count), "retries",
		"run a test that fails up to `N` times more; one that passes then is flaky")
	how.flags.BoolVar(&f.untilFail, "until-fail", false,
		"repeat until a failure, at most --repeat times if that is given")
	how.flags.BoolVar(&f.watch, "watch", false, "run again what changed files concern, until Ctrl-C")
	how.flags.BoolVarP(&f.failFast, "fail-fast", "x", false, "start no more files after the first that failed")
	how.flags.BoolVar(&f.keepGoing, "keep-going", false, "run all files (the default)")
	how.flags.BoolVar(&f.pause, "pause-on-failure", false,
		"at a failed test keep its guests and read Lua in its state; needs a terminal")
	how.flags.BoolVar(&f.rewind, "rewind", false,
		"keep the states of guests before the operations of each test, to which a pause can go back")
	how.flags.Var(value(&f.timeout, "duration", config.ParseDuration), "timeout",
		"limit of each file, `DUR`: 90, 90s, 5m, 1h; 0: no limit (default 300)")
	how.flags.Var(value(&f.seed, "seed", flagtext.GivenSeed), "seed",
		"base of what chance decides, `N`; 0 if it is not given")
	how.flags.BoolVar(&f.deterministic, "deterministic", false,
		"guests do the same in each run with the same seed, unless their profile or boot says otherwise")
	how.flags.BoolVar(&f.disturb, "disturb", false,
		"interrupt the processes of deterministic guests at moments that the seed decides")
	how.flags.BoolVar(&f.record, "record", false,
		"record guests: \"provium debug\" runs those of a failed test again, under a debugger that goes back")
	how.flags.Var(value(&f.explore, "count", flagtext.Count), "explore",
		"run with `N` seeds, --deterministic and --disturb, until a test fails with one")
	how.flags.BoolVar(&f.cold, "cold", false, "boot every guest, take none from the boot cache")
	how.flags.Var(value(&f.shared, "ref", func(text string) (*sharedcache.Cache, error) {
		return sharedcache.Open(text, p.absolute("."), 0)
	}), "cache", "bring what the shared cache `REF` has before the run: HOST/NAME[:TAG] or oci:DIR")
	how.flags.Var(value(&f.local, "vmm", flagtext.VMM), "vmm",
		"what runs guests, `VMM`: qemu, or local, which boots no kernel (default qemu)")
	how.flags.BoolVar(&f.noKSM, "no-ksm", false, "leave the host's settings for the merging of equal pages alone")
	how.flags.BoolVar(&f.unchecked, "no-preflight", false, "skip the checks at the start")

	pool := newGroup("What they share")
	pool.flags.Var(value(&f.memory, "size", flagtext.Memory), "mem",
		"memory for all guests, `SIZE` such as 6G (default 80 % of the RAM)")
	pool.flags.Var(value(&f.cpus, "count", flagtext.Count), "cpus", "CPUs for all guests, `N` (default those online)")
	pool.flags.Var(value(&f.overcommit, "factor", flagtext.Factor), "cpu-overcommit",
		"`F`: auto starts files while CPUs are left, a factor (0.5 to 8) counts vCPUs (default auto)")
	pool.flags.VarP(value(&f.jobs, "count", flagtext.Count), "jobs", "j",
		"at most `N` files at a time (default no limit)")

	output := newGroup("Output")
	output.flags.BoolVarP(&f.verbose, "verbose", "v", false, "every test, with its log")
	output.flags.BoolVarP(&f.quiet, "quiet", "q", false, "failures and the summary only")
	output.flags.BoolVar(&f.json, "json", false, "one JSON line per file on standard output")
	output.flags.Var(value(&f.durations, "count", flagtext.Durations), "durations",
		"show the `N` slowest tests at the end; 0: all of them")
	for _, x := range []struct {
		to           *string
		flag, format string
	}{{&f.junit, "junit", "JUnit XML"}, {&f.tap, "tap", "TAP 14"}, {&f.ktap, "ktap", "KTAP"}} {
		output.flags.Var(value(x.to, "file", flagtext.Path), x.flag, "write the results as "+x.format+" to `FILE`")
	}
	output.flags.Var(value(&f.artifacts, "dir", flagtext.Path), "artifacts",
		"keep the evidence of each failed test in `DIR`; `off`: nowhere (default the user's cache,\n"+
			"with CI=true ./provium-artifacts)")
	output.flags.BoolVar(&f.dump, "dump", false,
		"keep the memory of guests that hang or panic with that evidence, for crash and drgn")
	return []flagGroup{project, f.selectFlags.group(), tests, how, pool, output, f.events.group()}
}

// testGroup are the flags that choose tests.
func testGroup(f *choose.Filter) flagGroup {
	tests := newGroup("Which tests")
	tests.flags.Var(list(&f.Names, "name", flagtext.TestName), "test",
		"tests whose name contains `STR`, or matches /RE/; repeat for any of several")
	tests.flags.VarP(value(&f.Keyword, "expression", flagtext.Keyword), "keyword", "k",
		"tests whose name, path or tags match `EXPR`, as in \"net and not (slow or ipv6)\"")
	tests.flags.Var(list(&f.Tags, "tag", flagtext.NonEmpty), "tag",
		"tests with the tag `T`; repeat for any of several")
	tests.flags.Var(list(&f.NoTags, "tag", flagtext.NonEmpty), "no-tag",
		"no tests with the tag `T`; may be repeated")
	tests.flags.Var(list(&f.TagMeta, "meta", flagtext.Meta), "tag-meta",
		"tests whose meta field K is V, `K=V`; may be repeated")
	tests.flags.Var(list(&f.NoTagMeta, "meta", flagtext.Meta), "no-tag-meta",
		"no tests whose meta field K is V, `K=V`; may be repeated")
	tests.flags.BoolVar(&f.IncludeSlow, "include-slow", false, "run slow tests too")
	return tests
}

func (p *program) runCommand(cmd *cobra.Command, f *runFlags, paths []string) error {
	if err := exclusive(cmd, [2]string{"verbose", "quiet"}, [2]string{"fail-fast", "keep-going"},
		[2]string{"json", "events-stdout"}, [2]string{"watch", "repeat"}, [2]string{"watch", "until-fail"},
		[2]string{"watch", "pause-on-failure"}, [2]string{"explore", "watch"}, [2]string{"explore", "repeat"},
		[2]string{"explore", "until-fail"}, [2]string{"explore", "retries"}); err != nil {
		return err
	}
	if err := f.events.check(cmd); err != nil {
		return err
	}
	if err := p.misspelt(cmd, paths); err != nil {
		return err
	}
	if f.explore > 0 {
		return p.explore(cmd, f, paths)
	}
	o, err := p.options(cmd, f, paths)
	if err != nil {
		return err
	}
	if f.shared != nil && !f.local {
		ctx, done := p.interruptible(cmd.Context())
		sh, err := p.share(ctx, o.Config.CacheDir, f.qemu)
		if err == nil {
			err = sh.Warm(ctx, f.shared, share.WarmLimit)
		}
		done()
		if err != nil {
			return err
		}
	}
	signals, stop := p.signals()
	defer stop()
	o.Signals = signals
	if o.Person != nil { // whose line may be read when the run ends
		defer terminal.Keep(p.stdin)()
	}
	coveragefile.Sweep(o.TempBase)
	if p.ksmDir != "" && !f.noKSM && !f.local {
		o.Begin = func() { fmt.Fprintf(p.stderr, "provium: %s\n", ksm.Tune(p.ksmDir)) }
	}
	carryOut := p.runTests
	if f.watch {
		w := live.Watch{Terminal: p.terminal(), Run: p.runTests,
			Options: func() (run.Options, error) { return p.options(cmd, f, paths) }}
		carryOut = w.Loop
	} else {
		defer live.Show(p.terminal(), &o, nil).Close()
	}
	if f.events.coverage {
		p.code, err = p.runCovered(cmd.Context(), o, carryOut)
	} else {
		p.code, err = carryOut(cmd.Context(), o)
	}
	return err
}

// options makes the options of a run, after the checks at its start.
func (p *program) options(cmd *cobra.Command, f *runFlags, paths []string) (run.Options, error) {
	cfg, err := p.loadConfig(f.config, f.kernel, f.qemu, paths...)
	if err == nil {
		err = cfg.Pick(f.picked)
	}
	if err != nil {
		return run.Options{}, err
	}
	for name, profile := range cfg.Profiles {
		if f.deterministic && profile.Shape.Deterministic == nil {
			profile.Shape.Deterministic = &f.deterministic
		}
		profile.Shape.Disturb, profile.Shape.Record = f.disturb, f.record && !f.local
		cfg.Profiles[name] = profile
	}
	if !f.unchecked && !f.local {
		if err := p.preflight(cfg, f.qemu); err != nil {
			return run.Options{}, err
		}
	}
	sel, err := p.selection(cmd.Context(), &f.selectFlags, paths)
	if err != nil {
		return run.Options{}, err
	}
	sel.AllowEmpty = f.allowEmpty
	var dirs [3]string
	for i, open := range []func() (string, error){p.caches().images, p.caches().boots,
		func() (string, error) { return p.caches().fixtures(cfg.CacheDir) }} {
		if dirs[i], err = open(); err != nil {
			return run.Options{}, err
		}
	}
	cfg.CacheDir = dirs[2]
	o := run.Options{
		Config: cfg, Select: sel, Filter: f.filter,
		Repeat: f.repeat, UntilFail: f.untilFail, Jobs: f.jobs, FailFast: f.failFast,
		FileTimeout: run.DefaultFileTimeout, FairTimeout: true,
		Memory: f.memory, CPUs: f.cpus, CPUOvercommit: p.overcommit(cmd, f), Cold: f.cold, Local: f.local,
		Durations: f.durations, Retries: f.retries, Rewind: f.rewind,
		JSON: f.json, Color: p.colors(), Events: p.eventOptions(f),
		Self: p.self, RunnerVerb: runnerVerb, ImageCache: dirs[0], BootCache: dirs[1],
		Release: version, Version: p.identity(), Overlay: p.absolute(p.getenv("PROVIUM_OVERLAY")),
		TempBase: p.tempBase(), RerunState: p.rerunState(), History: p.history(),
		Stdout: p.stdout, Stderr: p.stderr,
	}
	if f.events.stdout { // which has nothing else
		o.Stdout, o.Color = p.stderr, false
	}
	switch {
	case f.record && (f.pause || f.cold):
		return o, errors.New("--record does not go with --pause-on-failure, since it ends the guests of a failed " +
			"test, nor with --cold, since a guest is recorded from its boot in the cache on")
	case p.isOnTerminal() && !f.json && !f.events.stdout:
		o.Person, o.PauseOnFailure = p.terminalTalk(), f.pause
	case f.pause:
		return o, errors.New("--pause-on-failure needs a terminal for standard input and output")
	}
	if cmd.Flags().Changed("timeout") {
		o.FileTimeout, o.FairTimeout = f.timeout, false
	}
	o.Exports = run.Exports{JUnit: p.absolute(f.junit), TAP: p.absolute(f.tap), KTAP: p.absolute(f.ktap),
		Page:     p.absolute(f.events.page),
		Annotate: p.getenv("GITHUB_ACTIONS") == "true", Workspace: p.getenv("GITHUB_WORKSPACE")}
	o.Kept = p.artifacts(f, cfg)
	switch {
	case f.verbose:
		o.Verbosity = report.Verbose
	case f.quiet:
		o.Verbosity = report.Quiet
	}
	if path, err := p.programs(nil).Look(cmp.Or(p.programPath(f.qemu), hostcheck.QEMUProgram)); err == nil {
		o.QEMU = path
	}
	if f.replayed != nil {
		p.sayChanges(&o, f.replayed)
	}
	return o, p.setSeed(&o, f)
}

// artifacts returns where the evidence of failures goes.
func (p *program) artifacts(f *runFlags, cfg *config.Config) evidence.Options {
	o := evidence.Options{Dir: cfg.Artifacts, Kernel: p.absolute(f.kernel), QEMU: p.programPath(f.qemu),
		Deterministic: f.deterministic, Disturb: f.disturb, Recorded: f.record, Picked: strings.Join(f.picked, ","),
		Dump: f.dump || cfg.Dump}
	if dir := cmp.Or(f.artifacts, p.getenv("PROVIUM_ARTIFACTS")); dir != "" {
		o.Dir = dir
	}
	switch {
	case o.Dir == config.ArtifactsOff:
		o.Dir = ""
	case o.Dir != "":
		o.Dir = p.absolute(o.Dir)
	case p.getenv("CI") == "true":
		o.Dir, o.Optional = p.absolute("provium-artifacts"), true
	default: // beside the rerun state, where there is one that lasts
		dir := filepath.Join(p.caches().home, cacheName)
		if !p.caches().lost && cachedir.Inspect(dir, p.caches().home).ReadOnly == nil {
			o.Dir, o.Last, o.Optional = filepath.Join(dir, "artifacts"), true, true
		}
	}
	return o
}

const replayHelp = `Run one failed test again, as it was run.

DIR is the folder of a failure, which the line "artifacts: DIR" below it names. The test
runs with the same seeds and flags; what has changed since then is said first. Flags of a
run come in addition, such as --repeat and --pause-on-failure. Guests of a run with
--record are recorded anew: "provium debug DIR" runs those in DIR again.`

func (p *program) replayCommand() *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use:               "replay DIR [FLAGS]",
		Short:             "Run a failed test again with the same seeds and flags",
		Long:              replayHelp,
		Example:           "  provium replay provium-artifacts/split.cluster_heals --pause-on-failure",
		ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(cmd, "expected the folder of one failure, got %d arguments", len(args))
			}
			r, err := artifacts.ReadRecord(p.absolute(args[0]))
			if err != nil {
				return err
			}
			debug.Mention(p.stderr, r.Recorded, args[0])
			return p.replay(cmd, f, r)
		},
	}
	finish(cmd, p.runGroups(f)...)
	return cmd
}

func (p *program) debugCommand() *cobra.Command {
	var o debug.Options
	cmd := &cobra.Command{
		Use:               "debug DIR [FLAGS] [-- GDB ARGS]",
		Short:             "Run a recorded guest of a failed test again, under gdb",
		Long:              debug.Help,
		Example:           "  provium debug provium-artifacts/split.cluster_heals --at tests/split.test.lua:31",
		ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 1 && cmd.ArgsLenAtDash() != 1 {
				return usage(cmd, "expected the folder of one failure, got %d arguments", len(args))
			}
			o.Dir, o.GDB, o.TempBase, o.Look = p.absolute(args[0]), args[1:], p.tempBase(), p.programs(nil).Look
			o.Stdin, o.Stdout, o.Stderr, o.QEMU = p.stdin, p.stdout, p.stderr, p.programPath(o.QEMU)
			return debug.Run(cmd.Context(), o)
		},
	}
	group := newGroup("Which moment")
	group.flags.StringVar(&o.At, "at", "", "`WHERE`: panic, end, the name of a mark, FILE:LINE, or the number of an "+
		"operation (default the panic, or the operation that has failed)")
	group.flags.StringVar(&o.VM, "vm", "", "the guest of the VM `NAME`, where several were recorded")
	group.flags.BoolVar(&o.List, "list", false, "list the moments and run nothing")
	group.flags.BoolVar(&o.Replay, "replay", false, "without gdb: print what the guest prints, up to the end or --at")
	group.flags.Var(value(&o.QEMU, "path", flagtext.Path), "qemu", "run it with the QEMU `PATH`, of the same version")
	finish(cmd, group)
	return cmd
}

func (p *program) verifyDeterminismCommand() *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use:     "verify-determinism FILE[:LINE | ::TEST]... [FLAGS]",
		Short:   "Run tests twice and find the first difference between their guests",
		Long:    twice.Help,
		Example: "  provium verify-determinism tests/race.test.lua --seed 7",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "expected test files, got none")
			}
			return p.verifyDeterminism(cmd, f, args)
		},
	}
	project := newGroup("Project")
	project.config(&f.config)
	project.flags.Var(value(&f.qemu, "path", flagtext.Path), "qemu", "run guests of every profile with the QEMU `PATH`")
	project.flags.Var(value(&f.repeat, "count", flagtext.Count), "runs", "run them `N` times (default 2)")
	project.flags.Var(value(&f.seed, "seed", flagtext.GivenSeed), "seed",
		"base of what chance decides, `N`; 0 if it is not given")
	finish(cmd, project)
	return cmd
}

// verifyDeterminism runs the tests twice.
func (p *program) verifyDeterminism(cmd *cobra.Command, f *runFlags, paths []string) error {
	f.deterministic, f.quiet = true, true
	temp, err := p.privateDir()
	if err != nil {
		return err
	}
	signals, stop := p.signals()
	defer stop()
	p.code, err = twice.Run(max(f.repeat, 2), temp, p.stdout, p.stderr, func(dir string) (int, error) {
		o, err := p.options(cmd, f, paths)
		if err != nil {
			return 0, err
		}
		o.CheckDir, o.Signals, o.Repeat = dir, signals, 1
		return p.runTests(cmd.Context(), o)
	})
	return err
}

// explore runs the tests with one seed after another.
func (p *program) explore(cmd *cobra.Command, f *runFlags, paths []string) error {
	f.deterministic, f.disturb = true, true
	signals, stop := p.signals()
	defer stop()
	e := explore.Exploration{Count: f.explore, Stdout: p.stdout, Stderr: p.stderr}
	if f.seed != nil {
		e.First = *f.seed
	}
	e.Run = func(seed uint64, stdout io.Writer) (int, error) {
		f.seed = &seed
		o, err := p.options(cmd, f, paths)
		if err != nil {
			return 0, err
		}
		o.Signals, o.Stdout, o.Color = signals, stdout, false
		return p.runTests(cmd.Context(), o)
	}
	code, err := e.Carry()
	p.code = code
	return err
}

// replay runs the test of a record. Flags that were given win over those of the record.
func (p *program) replay(cmd *cobra.Command, f *runFlags, r artifacts.Record) error {
	set := map[string]string{"seed": fmt.Sprint(r.Seed)}
	if !r.FairTimeout {
		set["timeout"] = fmt.Sprintf("%dms", r.Timeout.Milliseconds())
	}
	for name, on := range map[string]bool{"cold": r.Cold, "include-slow": r.IncludeSlow,
		"deterministic": r.Deterministic, "disturb": r.Disturb, "record": r.Recorded && !f.pause && !f.cold} {
		if on {
			set[name] = "true"
		}
	}
	if r.Local {
		set["vmm"] = "local"
	}
	if r.Shuffle {
		set["shuffle"] = fmt.Sprint(r.ShuffleSeed)
	}
	project := r.Project
	if _, err := os.Stat(r.Config); err == nil {
		set["config"] = r.Config
	} else {
		cfg, err := p.loadConfig(f.config, "", "")
		if err != nil {
			return fmt.Errorf("`%s` is not on this machine, and %w", r.Config, err)
		}
		project = cfg.Dir
		fmt.Fprintf(p.stderr, "provium: replay: `%s` is not on this machine; `%s` is taken\n", r.Config, cfg.Path)
	}
	for name, path := range map[string]string{"kernel": r.Kernel, "qemu": r.QEMU, "profile": r.Picked} {
		if path != "" {
			set[name] = path
		}
	}
	for name, text := range set {
		if !cmd.Flags().Changed(name) {
			if err := cmd.Flags().Set(name, text); err != nil {
				return fmt.Errorf("the record has --%s `%s`: %w", name, text, err)
			}
		}
	}
	path := filepath.Join(project, r.File)
	if r.Test != "" {
		path += "::" + r.Test
	}
	f.replayed = &r
	return p.runCommand(cmd, f, []string{path})
}

// sayChanges says what is not as it was when a replayed test failed.
func (p *program) sayChanges(o *run.Options, r *artifacts.Record) {
	o.Kept.Profiles = r.Profiles
	now := artifacts.Versions{Provium: version, Kernel: artifacts.HostKernel(), QEMU: r.Host.QEMU}
	if o.QEMU != "" && r.Host.QEMU != "" {
		starter := proc.NewStarter()
		defer starter.Close()
		now.QEMU = evidence.QEMUVersion(context.Background(), starter, o.QEMU)
	}
	for _, line := range r.Host.Differences(now) {
		fmt.Fprintf(p.stderr, "provium: replay: %s\n", terminal.Escape(line))
	}
}

// setSeed takes the seed of the run and tells it. Without one it is 0, so that a run
// repeats the one before; only the order of files has its seed drawn.
func (p *program) setSeed(o *run.Options, f *runFlags) (err error) {
	if f.seed != nil {
		o.Seed = *f.seed
	}
	o.Notes = append(o.Notes, fmt.Sprintf("seed %d", o.Seed))
	if o.Select.Shuffle = f.shuffle.on; f.shuffle.on {
		switch {
		case f.shuffle.seed != nil:
			o.ShuffleSeed = *f.shuffle.seed
		case f.seed != nil:
			o.ShuffleSeed = o.Seed
		default:
			if o.ShuffleSeed, err = drawSeed(); err != nil {
				return err
			}
		}
		o.Notes = append(o.Notes, fmt.Sprintf("shuffled with seed %d", o.ShuffleSeed))
	}
	return nil
}

// overcommit holds the factor within its bounds, and says so. 0 is auto.
func (p *program) overcommit(cmd *cobra.Command, f *runFlags) float64 {
	if !cmd.Flags().Changed("cpu-overcommit") || math.IsNaN(f.overcommit) {
		return 0
	}
	held := math.Min(math.Max(f.overcommit, sched.MinOvercommit), sched.MaxOvercommit)
	if held != f.overcommit {
		fmt.Fprintf(p.stderr, "provium: --cpu-overcommit %v is clamped to %v (valid: %v to %v)\n", f.overcommit, held,
			sched.MinOvercommit, sched.MaxOvercommit)
	}
	return held
}

// preflight refuses a run that cannot work on this machine.
func (p *program) preflight(cfg *config.Config, qemu string) error {
	failed := hostcheck.Preflight(hostcheck.Host{
		Root: os.DirFS("/"), UID: p.uid, Programs: p.programs(nil), TempBase: p.tempBase(), Open: openDevice,
		QEMU: p.programPath(qemu), Config: func() (*config.Config, error) { return cfg, nil },
	})
	if len(failed) == 0 {
		return nil
	}
	var lines []string
	for _, r := range failed {
		lines = append(lines, fmt.Sprintf("%s: %s: %s; %s", r.Name, r.Found, r.Effect, r.Remedy))
	}
	return fmt.Errorf("this machine cannot run guests:\n  %s\n(`provium doctor` tells more, --no-preflight "+
		"skips these checks)", strings.Join(lines, "\n  "))
}
