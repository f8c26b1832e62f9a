package evidence

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"provium/internal/artifacts"
	"provium/internal/event"
	"provium/internal/lab"
	"provium/internal/proc"
	"provium/internal/qemu"
	"provium/internal/script/salvage"
	"provium/internal/terminal"
)

const (
	maxConsole = 128 << 20 // bytes
	maxConfig  = 4 << 20
	maxVMs     = 1000 // of which the command line of QEMU is known
	// factsLimit is how long it may take to find out what a failed test was run with.
	factsLimit = 2 * time.Second
)

// Job is what is known of a test file before it runs.
type Job struct {
	Place  artifacts.Place
	Record artifacts.Record // of a failure, without its test
	QEMU   string           // program
	Dump   bool             // the memory of guests that hang or panic is kept
	// Replayed are the digests of profiles at the failure that is replayed.
	Replayed map[string]string
}

// Collector collects what a process knows of the failures of a test file. It is safe for concurrent use.
type Collector struct {
	job    Job
	stderr io.Writer
	// Host is that of the file's labs, Version returns the version of a QEMU program, for people. Both are set
	// before guests are made, and may be nil.
	Host    *lab.Host
	Version func(ctx context.Context, program string) string

	events artifacts.Recorder

	mu     sync.Mutex
	starts map[string][]string // the latest command line of QEMU, by VM
	folder *artifacts.Folder   // of the test that is failing
	early  bool                // it has what is gone after the test
	told   bool                // that something could not be written
}

// NewCollector returns a Collector. Without a place, it keeps nothing.
func NewCollector(j Job, stderr io.Writer) *Collector {
	return &Collector{job: j, stderr: stderr, starts: map[string][]string{}}
}

// IsOn reports whether anything is kept.
func (c *Collector) IsOn() bool { return c.job.Place.Dir != "" }

// SayChanges says which profiles boot something else than at the failure that is replayed.
func (c *Collector) SayChanges(ctx context.Context) {
	for _, name := range slices.Sorted(maps.Keys(c.job.Replayed)) {
		ctx, cancel := context.WithTimeoutCause(ctx, factsLimit, fmt.Errorf("it took longer than %v", factsLimit))
		now, err := c.Host.ProfileDigest(ctx, name)
		cancel()
		what := "boots another kernel, initrd, modules, command line or QEMU than then"
		switch then := c.job.Replayed[name]; {
		case err != nil:
			what = "cannot be compared: " + terminal.Escape(err.Error())
		case then == "" || then == now:
			continue
		}
		fmt.Fprintf(c.stderr, "provium: replay: profile `%s` %s\n", terminal.Escape(name), what)
	}
}

// Take takes an event of the file.
func (c *Collector) Take(e event.Event) {
	if !c.IsOn() {
		return
	}
	c.events.Take(e)
	switch e.(type) {
	case event.TestPassed, event.TestSkipped: // an error that was caught has left a folder
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.folder != nil {
			c.folder.Drop()
		}
		c.folder, c.early = nil, false
	}
}

// Watch returns a starter of machines that records how they are started.
func (c *Collector) Watch(s qemu.Starter) qemu.Starter {
	if !c.IsOn() {
		return s
	}
	return watchedStarter{s, c}
}

type watchedStarter struct {
	qemu.Starter
	c *Collector
}

// Launch implements qemu.Starter.
func (s watchedStarter) Launch(cmd *exec.Cmd, opens ...proc.File) (proc.Process, error) {
	for i := 1; i < len(cmd.Args); i++ {
		name, ok := strings.CutPrefix(cmd.Args[i], "guest=")
		if ok && cmd.Args[i-1] == "-name" {
			s.c.started(name, append([]string{cmd.Path}, cmd.Args[1:]...))
		}
	}
	return s.Starter.Launch(cmd, opens...)
}

func (c *Collector) started(vm string, command []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.starts[vm]; known || len(c.starts) < maxVMs {
		c.starts[vm] = command
	}
}

// Salvage takes what the guests of a failing test leave behind.
func (c *Collector) Salvage(ctx context.Context, r salvage.Remains) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.open(ctx, c.events.Test(), r.VMs)
	if f == nil {
		return
	}
	if !c.early {
		c.early = true
		r.Dump = c.job.Dump
		salvage.Early(ctx, f, r)
	}
	if r.Last {
		salvage.Late(f, r, c.starts)
	}
}

// open returns the folder of the present failure, nil if there cannot be one. The caller must hold c.mu.
func (c *Collector) open(ctx context.Context, test string, vms []*lab.VM) *artifacts.Folder {
	if c.folder != nil {
		return c.folder
	}
	ctx, cancel := context.WithTimeout(ctx, factsLimit)
	defer cancel()
	r := c.job.Record
	r.Test, r.Profiles = test, map[string]string{}
	for _, vm := range vms {
		if _, ran := vm.CID(); ran && c.Host != nil && r.Profiles[vm.Profile()] == "" {
			r.Profiles[vm.Profile()], _ = c.Host.ProfileDigest(ctx, vm.Profile()) // "" is one that is not known
		}
	}
	if len(r.Profiles) > 0 && c.Version != nil {
		r.Host.QEMU = c.Version(ctx, c.job.QEMU)
	}
	var err error
	if c.folder, err = c.job.Place.Create(r); err != nil {
		c.tell(err)
	}
	return c.folder
}

// Finish completes the folder of a failed test, or that of the chunk if the name is empty, and
// returns its path. It returns "" if nothing was kept.
func (c *Collector) Finish(test, reason string, took time.Duration) string {
	return c.finish(test, reason, took, func(*artifacts.Folder) {})
}

// Lost is Finish for a process of a file that has ended without a report. temp is what it has left behind.
func (c *Collector) Lost(test, reason, temp string) string {
	return c.finish(test, reason, 0, func(f *artifacts.Folder) {
		consoles, _ := filepath.Glob(filepath.Join(temp, "vm*", "console.log")) // the pattern is a good one
		for _, path := range consoles {
			f.Add("console-"+filepath.Base(filepath.Dir(path))+".log",
				"the console of a VM, as the process of the test file left it", maxConsole, copyFrom(path))
		}
	})
}

func (c *Collector) finish(test, reason string, took time.Duration, more func(*artifacts.Folder)) string {
	if !c.IsOn() {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.open(context.Background(), test, nil)
	c.folder, c.early = nil, false
	if f == nil {
		return ""
	}
	more(f)
	c.events.Save(f)
	c.events.Again()
	if path := c.job.Record.Config; path != "" {
		f.Add("provium.toml", "the configuration", maxConfig, copyFrom(path))
	}
	if err := f.Finish(reason, took); err != nil {
		c.tell(err)
	}
	return f.Dir
}

func copyFrom(path string) func(io.Writer) error {
	return func(w io.Writer) error {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(w, file)
		return err
	}
}

// tell says once that something cannot be kept. The caller must hold c.mu.
func (c *Collector) tell(err error) {
	if !c.told {
		c.told = true
		fmt.Fprintf(c.stderr, "provium: %s: artifacts: %v\n", c.job.Record.File, err)
	}
}

// QEMUVersion returns the version of a QEMU program for people, "" if it does not say one.
func QEMUVersion(ctx context.Context, starter *proc.Starter, program string) string {
	const longest = 200 // bytes
	if program == "" {
		return ""
	}
	out, _, err := starter.Run(ctx, "/", nil, program, "--version")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(out[:min(len(out), longest)]), "\n")
	return strings.TrimPrefix(first, "QEMU emulator version ")
}
