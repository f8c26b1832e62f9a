package run

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"provium/internal/artifacts"
	"provium/internal/choose"
	"provium/internal/config"
	"provium/internal/event/sink"
	"provium/internal/preparation"
	"provium/internal/report"
	"provium/internal/run/evidence"
)

// Options are everything that the command line says about a run. The zero
// value of a field is its flag's default.
type Options struct {
	Config *config.Config
	Select Selection

	Repeat      int  // 0 is 1
	Retries     int  // of each test that has failed
	UntilFail   bool // repeat until a failure, at most Repeat times if that is set
	Jobs        int  // files at a time; 0 is no limit
	FailFast    bool
	FileTimeout time.Duration // 0 is no limit; the flag's default is DefaultFileTimeout
	FairTimeout bool          // FileTimeout is that default: time without a CPU does not count; see package deadline

	Memory        int64   // bytes of the pool; 0: measured
	CPUs          int     // of the pool; 0: measured
	CPUOvercommit float64 // factor on the CPUs that the vCPUs of guests count against; 0: CPUs count by use
	Cold          bool
	Seed          uint64 // base of every seeded generator
	CheckDir      string // where what deterministic guests do is written down; "": nowhere
	ShuffleSeed   uint64 // for Select.Shuffle

	Notes []string // further facts to show at the start, like a seed that was drawn

	Filter choose.Filter

	Durations *int // how many of the slowest tests to show at the end, 0 for all; nil: none
	// Person looks at tests that are paused; nil where the run has no terminal.
	Person         Person
	PauseOnFailure bool
	Rewind         bool // states of guests are kept during tests

	Verbosity report.Verbosity
	JSON      bool
	Color     bool // stdout is a terminal that wants colours
	Events    sink.Options
	// Stream is the event stream, opened by OpenEvents, of a run that is one of several. Nil has
	// the run open its own.
	Stream  *sink.Stream
	Exports Exports
	Kept    evidence.Options // where the evidence of failed tests goes

	QEMU       string // program; "" is qemu-system-x86_64 on PATH
	Local      bool   // no kernel is booted: machines of package localvmm
	Self       string // our own program, started as runner
	RunnerVerb string // its hidden verb
	ImageCache string
	BootCache  string // directory of post-boot snapshots; "" or Cold has every boot really boot
	Version    string // identity of this program: fixtures that another has built are stale
	Release    string // version of this program, for people
	Overlay    string // agent overlay file of $PROVIUM_OVERLAY, or ""
	TempBase   string // where temporary directories go
	RerunState string // file, or "" for none
	History    string // file with the durations of earlier runs, or "" for none

	Stdout, Stderr io.Writer
	// Begin is called once it is known that files will run; nil does nothing.
	Begin func()
	// Signals receives Ctrl-C: once to stop, twice to stop without a summary.
	Signals <-chan os.Signal

	userlands *preparation.Userlands // of the run
}

// repeat returns the flags that make a further run decide like this one what is left to
// chance, "" if a run without flags does.
func (o *Options) repeat() string {
	var flags []string
	if o.Seed != 0 {
		flags = append(flags, fmt.Sprintf("--seed %d", o.Seed))
	}
	if o.Kept.Picked != "" {
		flags = append(flags, "--profile "+report.Quote(o.Kept.Picked))
	}
	if o.Kept.Deterministic {
		flags = append(flags, "--deterministic")
	}
	if o.Kept.Disturb {
		flags = append(flags, "--disturb")
	}
	if o.Select.Shuffle {
		flags = append(flags, fmt.Sprintf("--shuffle %d", o.ShuffleSeed))
	}
	return strings.Join(flags, " ")
}

// repeatOf returns how to run a file, or a test of it, like this run, from where it was started.
func (o *Options) repeatOf(c Candidate) report.Repeat {
	path, dir := c.Abs, o.Select.WorkDir
	if rel, err := filepath.Rel(dir, c.Abs); err == nil && filepath.IsLocal(rel) {
		path = rel
	}
	var flags []string
	above, err := filepath.Rel(o.Config.Dir, dir)
	if err != nil || !filepath.IsLocal(above) || filepath.Base(o.Config.Path) != config.FileName {
		config := o.Config.Path
		if rel, err := filepath.Rel(dir, config); err == nil && filepath.IsLocal(rel) {
			config = rel
		}
		flags = append(flags, "--config "+report.Quote(config))
	}
	if o.Local {
		flags = append(flags, "--vmm local")
	}
	if o.Filter.IncludeSlow {
		flags = append(flags, "--include-slow")
	}
	if chance := o.repeat(); chance != "" {
		flags = append(flags, chance)
	}
	return report.Repeat{Path: path, Flags: strings.Join(flags, " ")}
}

// record describes the failures of a file, but for the test. run is a text of this run of it alone.
func (o *Options) record(c Candidate, run string) artifacts.Record {
	return artifacts.Record{
		Run: run, Project: o.Config.Dir, Config: o.Config.Path, File: c.Path, Seed: o.Seed, Shuffle: o.Select.Shuffle,
		ShuffleSeed: o.ShuffleSeed, Kernel: o.Kept.Kernel, QEMU: o.Kept.QEMU, Picked: o.Kept.Picked,
		Local: o.Local, Cold: o.Cold, Deterministic: o.Kept.Deterministic, Disturb: o.Kept.Disturb,
		Recorded:    o.Kept.Recorded,
		IncludeSlow: o.Filter.IncludeSlow, Timeout: o.FileTimeout, FairTimeout: o.FairTimeout,
		Host: artifacts.Versions{Provium: o.Release, Kernel: artifacts.HostKernel()},
	}
}

// DefaultFileTimeout is the limit of a file without --timeout.
const DefaultFileTimeout = 300 * time.Second
