package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"provium/internal/admission"
	"provium/internal/arch"
	"provium/internal/attach"
	"provium/internal/choose"
	"provium/internal/config"
	"provium/internal/determinism"
	"provium/internal/disk"
	"provium/internal/event"
	"provium/internal/hostload"
	"provium/internal/image"
	"provium/internal/kernelreport"
	"provium/internal/kernelsource"
	"provium/internal/lab"
	"provium/internal/preparation"
	"provium/internal/proc"
	"provium/internal/qemu"
	"provium/internal/qemu/accelerator"
	"provium/internal/report"
	"provium/internal/run/evidence"
	"provium/internal/script"
	"provium/internal/script/salvage"
	"provium/internal/script/verdict"
	"provium/internal/templates"
)

// runner runs a file.
type runner struct {
	job    *job
	shared *machinery
	cancel context.CancelCauseFunc // ends it
	ctx    context.Context
	pipe   *messagePipe
	repeat report.Repeat // of the job
	events *event.Buffer // on their way to the dispatcher
	pauses *pauses
	kept   *evidence.Collector

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan answer
}

// stopError ends a file from outside.
type stopError struct{ reason, status string }

// Error returns the reason.
func (e *stopError) Error() string { return e.reason }

// IsTimeout reports whether the file was over its limit.
func (e *stopError) IsTimeout() bool { return e.status == string(report.FileTimedOut) }

// run runs the file. It reports whether the process may run another one, and returns an error only when there is nobody
// to report to.
func (r *runner) run() (again bool, err error) {
	started, j := time.Now(), r.job
	used := r.shared.cpuTime()
	r.begin(j)
	defer r.cancel(nil)
	if err := r.pipe.send(&message{Begun: true}); err != nil {
		return false, err
	}
	result, err := r.runFile(r.ctx, j)
	d := &done{Duration: time.Since(started), Poisoned: result.Poisoned, ChunkError: result.ChunkError}
	if err != nil {
		d.ChunkError = err.Error()
	}
	if r.kept.Host != nil {
		d.Ignored = r.kept.Host.Oops.Used.Patterns()
		d.Boots = r.kept.Host.Boots.Seen()
	}
	if d.ChunkError != "" {
		d.Artifacts = r.kept.Finish("", d.ChunkError, 0)
	}
	r.events.Flush()
	d.Reusable = j.MayReuse && err == nil && !d.Poisoned && r.ctx.Err() == nil && r.shared.isIdle()
	d.CPU = r.shared.cpuTime() - used
	return d.Reusable, r.pipe.send(&message{Done: d})
}

// begin makes the way of events to the dispatcher.
func (r *runner) begin(j *job) {
	r.repeat = j.Repeat
	if j.Collect {
		j.Kept = evidence.Job{}
	}
	r.kept = evidence.NewCollector(j.Kept, os.Stderr)
	r.events = event.NewBuffer(j.Level, r.sendEvents, func(err error) {
		fmt.Fprintf(os.Stderr, "provium: event: %v\n", err)
	})
}

// take takes what the dispatcher says about the file.
func (r *runner) take(m *message) {
	switch {
	case m.Interrupt != nil:
		r.cancel(&stopError{m.Interrupt.Reason, m.Interrupt.Status})
	case m.Typed != nil:
		r.pauses.take(m.Typed)
	case m.Answer != nil:
		r.mu.Lock()
		ch := r.waiting[m.Answer.ID]
		delete(r.waiting, m.Answer.ID)
		r.mu.Unlock()
		if ch != nil {
			ch <- *m.Answer
		}
	}
}

func (r *runner) runFile(ctx context.Context, j *job) (script.Result, error) {
	if err := os.Chdir(j.Project); err != nil {
		return script.Result{}, err
	}
	starter := r.shared.starter
	host, err := newHost(j, r.shared, r.kept.Watch(r.shared.copies), r, r.emit)
	if err != nil {
		return script.Result{}, err
	}
	host.MoreFiles = j.MayReuse
	r.kept.Host, r.kept.Version = host, func(ctx context.Context, qemu string) string {
		return evidence.QEMUVersion(ctx, starter, qemu)
	}
	r.kept.SayChanges(ctx)
	defer serveGuests(host, r.pauses.status)()
	filter, err := choose.ParseFilter([]byte(j.Filter))
	if err != nil {
		return script.Result{}, err
	}
	var shuffle *uint64
	if j.ShuffleOn {
		shuffle = &j.ShuffleSeed
	}
	var collect func([]script.Registered)
	if j.Collect {
		collect = func(tests []script.Registered) { r.collected(j.Path, tests) }
	}
	var salvages func(context.Context, salvage.Remains)
	if r.kept.IsOn() {
		salvages = r.kept.Salvage
	}
	picks := j.Picks
	var person script.Pauses
	if j.CanPause {
		person = r.pauses
	}
	return script.Run(ctx, script.Config{
		Pauses: person, PauseOnFailure: j.PauseOnFailure, Rewind: j.Rewind,
		Env: script.Env{
			Project: j.Project, Roots: j.Roots, Host: host, Fixtures: fixtureCache(host, j.Fixtures, j.Version),
			Waits: r.waits, Stdout: os.Stdout, Stderr: os.Stderr, Emit: r.emit, Capture: j.Capture,
			Details: j.Level == event.Everything || r.kept.IsOn(), Progress: j.Level >= event.Progress, Now: time.Now,
			Salvage: salvages, Reports: kernelReports(host),
			Stuck: func() { proc.EndCommand(r.ctx, host.Warn) },
		},
		Path: j.Path, AbsPath: j.Abs, Shuffle: shuffle, Collect: collect,
		Retries: j.Retries,
		Filter: func(r script.Registered) (bool, string) {
			t := choose.Test{Path: j.Path, Name: r.Name, Group: r.Group, Meta: r.Meta.Values, Lines: linesOf(r)}
			if skip, reason := picks.Skip(t); skip {
				return true, reason
			}
			return filter.Skip(t)
		},
		Registered: func(names []string) {
			picks = picks.Of(names)
			told := make([]string, len(names)) // as their events have them
			for i, name := range names {
				told[i] = event.Text(name)
			}
			_ = r.pipe.send(&message{Registered: &registered{Tests: told}})
		},
	}), nil
}

// newHost builds what the labs of one process share. machines starts QEMU, starter all
// other programs.
func newHost(j *job, shared *machinery, machines qemu.Starter, pool admission.Pool, emit func(event.Event)) (
	*lab.Host, error) {
	rules, err := oopsRules(j.Oops, j.OopsIgnore)
	if err != nil {
		return nil, err
	}
	h := &lab.Host{}
	images, err := shared.imagesOf(j, emit, func() func() {
		if h.Waits == nil {
			return func() {}
		}
		return h.Waits()
	})
	if err != nil {
		return nil, err
	}
	*h = lab.Host{
		File: j.Path, Profiles: map[string]*lab.Profile{}, ConfigPath: j.ConfigPath, TempDir: j.TempDir,
		QEMU: j.QEMU, Oops: rules, Starter: machines, AccelHost: accelerator.This(), Pool: pool, Images: images,
		Emit: emit, BootCache: j.BootCache, Seed: j.Seed, TSC: &shared.tsc,
		Check:     determinism.New(j.CheckDir),
		Templates: &shared.templates, Boots: &templates.Demand{Known: j.Boots},
		Busy: func() bool { return hostload.Busy(os.DirFS("/")) },
		Warn: func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, "provium: %s: %s\n", j.Path, fmt.Sprintf(format, args...))
		},
	}
	if j.Kept.Dump && j.Kept.Place.Dir != "" {
		h.DumpDir = j.TempDir
	}
	for name, p := range j.Profiles {
		h.Profiles[name] = labProfile(name, p)
		h.Profiles[name].Image.Made = j.Userlands[name]
	}
	if j.Local {
		bootNothing(h, shared.starter)
	}
	return h, nil
}

// newImages opens the cache of images.
func newImages(j *job, starter *proc.Starter, emit func(event.Event), waiting func() func()) (*image.Store, error) {
	return image.NewStore(image.Config{
		CacheDir: j.ImageCache, Overlay: j.Overlay, Executable: j.Self, Runner: starter,
		Notice:   func(text string) { fmt.Fprintf(os.Stderr, "provium: %s\n", text) },
		Download: preparation.DownloadEvents(emit), Waiting: waiting,
	})
}

// serveGuests lets the user visit the guests of a host until stop is called.
func serveGuests(h *lab.Host, status func() string) (stop func()) {
	stop, err := attach.Serve(h.TempDir, h, status)
	if err != nil {
		h.Warn("%v", err)
		return func() {}
	}
	return stop
}

func oopsRules(extra, ignore []string) (kernelreport.Rules, error) {
	compile := func(list []string) ([]*regexp.Regexp, error) {
		var out []*regexp.Regexp
		for _, text := range list {
			re, err := regexp.Compile(text)
			if err != nil {
				return nil, fmt.Errorf("console pattern: %w", err)
			}
			out = append(out, re)
		}
		return out, nil
	}
	e, err := compile(extra)
	if err != nil {
		return kernelreport.Rules{}, err
	}
	i, err := compile(ignore)
	return kernelreport.Rules{Extra: e, Ignore: i, Used: &kernelreport.Used{}}, err
}

// kernelReports is what holds for the reports of the kernels of a host's guests.
func kernelReports(h *lab.Host) *verdict.Project {
	return &verdict.Project{Source: func(ctx context.Context, profile, report string) (string, error) {
		if p := h.Profiles[profile]; p != nil && p.Source != nil {
			return p.Source(ctx, report)
		}
		return report, nil
	}}
}

// debugFiles are the files and directories with the debug information of a profile's kernel.
func debugFiles(p config.Profile) kernelsource.Files {
	if len(p.Symbols) > 0 {
		return p.Symbols
	}
	return kernelsource.Near(p.Kernel, p.Root)
}

// debugFile is the first of them that can be a vmlinux.
func debugFile(p config.Profile) string {
	for _, path := range debugFiles(p) {
		if strings.HasSuffix(path, ".ko") {
			continue
		}
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			path = filepath.Join(path, "vmlinux")
			info, err = os.Stat(path)
		}
		if err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

func labProfile(name string, p config.Profile) *lab.Profile {
	out := &lab.Profile{
		Name: name, Machine: p.Machine, QEMU: p.QEMU, FirmwareConsole: p.FirmwareConsole,
		Accel: p.Accel, AgentTimeout: p.AgentBootTimeout, Image: ImageSpec(p),
		NoBootCache: !p.BootCache, BootCacheAge: p.BootCacheAge, NoteWarnings: p.KernelWarnings == "note",
		OpTimeout: p.OpTimeout, Ready: p.Ready, ReadyTimeout: p.ReadyTimeout,
		Shape: p.Shape, DebugFile: func() string { return debugFile(p) },
	}
	if files := debugFiles(p); len(files) > 0 {
		out.Source = kernelsource.NewMemory(files).Name
	}
	// Better no guest than one without what was asked for.
	for _, d := range p.Disks {
		out.Disks = append(out.Disks, disk.Spec{ID: d.ID, Path: d.Path, Scratch: d.Scratch, Template: d.Template,
			ReadOnly: d.ReadOnly, Format: d.Format, DiskModel: qemu.DiskModel{LogicalBlock: int(d.LogicalBlock),
				PhysicalBlock: int(d.PhysicalBlock), NoDiscard: d.NoDiscard, NoWriteCache: d.NoWriteCache, Bus: d.Bus}})
	}
	return out
}

// ImageSpec is what a profile says about its image.
func ImageSpec(p config.Profile) image.Spec {
	form := image.ByCompression
	switch {
	case p.BootCompressed == nil:
	case *p.BootCompressed:
		form = image.AsItIs
	default:
		form = image.Unpacked
	}
	guest, _ := arch.Named(p.Arch) // nil for none
	return image.Spec{
		Profile: p.Name, Arch: guest, Kernel: p.Kernel, Release: p.KernelRelease, Root: p.Root, Initrd: p.Initrd,
		Userland: p.Userland, Shares: p.Shape.Places(),
		Cmdline: p.Cmdline, CmdlineFile: p.CmdlineFile,
		Form: form, Vsock: p.Transport == "vsock",
		NoAgent: !p.InjectAgent, Overlay: p.AgentOverlayPath, Modules: p.Modules,
		ForcedKernel: p.KernelForced,
	}
}

// emit sends an event to the dispatcher.
func (r *runner) emit(e event.Event) {
	r.kept.Take(e)
	switch x := e.(type) {
	case event.TestFailed:
		if !strings.HasPrefix(x.Reason, poisoned) {
			x.Artifacts = r.kept.Finish(x.Name, x.Reason, time.Duration(x.DurationNS))
		}
		x.Reason = repeatable(x.Reason, x.Name, r.repeat, x.Artifacts)
		e = x
	case event.TestRetried:
		x.Artifacts = r.kept.Finish(x.Name, x.Reason, time.Duration(x.DurationNS))
		e = x
	}
	r.events.Emit(e)
}

// sendEvents sends a batch of the buffer.
func (r *runner) sendEvents(batch []event.Encoded) {
	m := &message{Events: make([]encodedEvent, len(batch))}
	for i, e := range batch {
		m.Events[i] = encodedEvent{Kind: string(e.Event.Kind()), Payload: e.Payload}
	}
	_ = r.pipe.send(m)
}

// ask sends a request to the pool and waits for the answer.
func (r *runner) ask(ctx context.Context, fill func(id uint64) *message) (id uint64, err error) {
	ch := make(chan answer, 1)
	r.mu.Lock()
	r.nextID++
	id = r.nextID
	r.waiting[id] = ch
	r.mu.Unlock()
	if err := r.pipe.send(fill(id)); err != nil {
		return 0, err
	}
	select {
	case a := <-ch:
		if a.Err != "" {
			return 0, errors.New(a.Err)
		}
		return id, nil
	case <-ctx.Done():
		// The dispatcher drops the request, or takes back what it granted.
		_ = r.pipe.send(&message{Release: &release{ID: id, Forget: true}})
		return 0, context.Cause(ctx)
	}
}

// Acquire implements admission.Pool.
func (r *runner) Acquire(ctx context.Context, what string, shares []admission.Share) (release []func(), err error) {
	id, err := r.ask(ctx, func(id uint64) *message {
		return &message{Acquire: &acquire{ID: id, What: what, Shares: shares}}
	})
	if err != nil {
		return nil, err
	}
	for i := range shares {
		release = append(release, func() { r.release(id, i) })
	}
	return release, nil
}

func (r *runner) release(id uint64, share int) {
	_ = r.pipe.send(&message{Release: &release{ID: id, Share: share}})
}

// waits informs the dispatcher of a wait that counts against no limit.
func (r *runner) waits() (goOn func()) {
	_ = r.pipe.send(&message{Waits: &waits{Begin: true}})
	return func() { _ = r.pipe.send(&message{Waits: &waits{}}) }
}

// Claim implements admission.Pool.
func (r *runner) Claim(ctx context.Context, memory int64, cpus int) error {
	_, err := r.ask(ctx, func(id uint64) *message {
		return &message{Claim: &claim{ID: id, Memory: memory, CPUs: cpus}}
	})
	return err
}
