package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peterh/liner"

	"provium/internal/event/sink"
	"provium/internal/fixture"
	"provium/internal/run"
	"provium/internal/script/fixtures"
	"provium/internal/terminal"
	"provium/internal/watch"
)

// Watch runs tests again and again, when what they use has changed, or somebody types a key.
type Watch struct {
	Terminal Terminal
	// Options makes the options of the next run, from the configuration as it is then.
	Options func() (run.Options, error)
	// Run is run.Run.
	Run func(context.Context, run.Options) (int, error)
}

// Loop carries out watched runs until somebody ends that, the first one with the options o. The
// exit code is that of the last one.
func (w *Watch) Loop(ctx context.Context, o run.Options) (int, error) {
	l := &loop{Watch: w, code: run.ExitOK, signals: o.Signals, keys: make(chan byte, 16),
		tracked: map[string]bool{}, cause: map[string]bool{}}
	l.shown = Show(w.Terminal, &o, l.typed)
	defer l.shown.Close()
	l.notes = o.Stderr
	if _, _, err := run.List(ctx, o, false); err != nil {
		return run.ExitError, err
	}
	var err error
	if l.stream, err = o.OpenEvents(); err != nil {
		return run.ExitError, err
	}
	if l.watcher, err = watch.Open(); err == nil {
		defer l.watcher.Close()
		err = l.loop(ctx, o)
	}
	return l.code, errors.Join(err, l.stream.Close())
}

// loop is a Watch that runs.
type loop struct {
	*Watch
	shown   *Shown
	notes   io.Writer
	stream  *sink.Stream
	watcher *watch.Watcher
	signals <-chan os.Signal
	keys    chan byte

	code    int
	filter  *string // typed; nil: that of the flags
	graph   *watch.Graph
	config  []string        // files of the configuration
	tracked map[string]bool // files that are no Lua code, which tests may write themselves
	cause   map[string]bool // files whose change has started the last run
	ended   bool
}

// typed takes a key.
func (l *loop) typed(key byte) {
	select {
	case l.keys <- key:
	default: // somebody leans on the keyboard
	}
}

// wish is what is to run next.
type wish struct {
	only   map[string]bool // canonical paths; nil: everything
	failed bool            // only what has failed
}

func (l *loop) loop(ctx context.Context, o run.Options) error {
	next := &wish{}
	for first := true; ; first = false {
		if !first {
			if now, err := l.Options(); err != nil {
				l.fail(err)
				next = nil
			} else {
				o = now
			}
		}
		var changed []string // meanwhile
		if next != nil {
			l.prepare(ctx, &o, next)
			changed = l.carryOut(ctx, o)
		}
		if l.ended {
			return nil
		}
		if next = l.concerned(ctx, &o, changed, true); next == nil {
			fmt.Fprintln(l.notes, "provium: waiting for changes"+l.help())
			if next = l.await(ctx, &o); next == nil {
				return nil
			}
		}
		if err := l.stream.Restart(); err != nil {
			return err
		}
	}
}

// help names the keys, if somebody can type.
func (l *loop) help() string {
	if l.shown.keys == nil {
		return ""
	}
	text := "; keys: r runs all, f what has failed, / filters by path, q quits"
	if l.filter != nil && *l.filter != "" {
		text += fmt.Sprintf(" (filter: %s)", terminal.Escape(*l.filter))
	}
	return text
}

// fail shows why there was no result.
func (l *loop) fail(err error) {
	l.code = run.ExitError
	fmt.Fprintf(l.notes, "provium: %s\n", terminal.Escape(err.Error()))
}

// prepare narrows a run to what is wanted, and watches what it uses.
func (l *loop) prepare(ctx context.Context, o *run.Options, next *wish) {
	l.shown.apply(o)
	o.Stream = l.stream
	o.Select.RerunFailed = false
	if l.filter != nil {
		o.Select.Filter = *l.filter
	}
	l.look(ctx, o)
	o.Select.Only, o.Select.RerunFailed = next.only, next.failed
	if next.only != nil {
		o.Select.AllowEmpty = true // a test that was asked for may be in another file
	}
}

// carryOut runs tests, and returns what has changed meanwhile. Ctrl-C and q end it.
func (l *loop) carryOut(ctx context.Context, o run.Options) (changed []string) {
	signals := make(chan os.Signal, 2)
	o.Signals = signals
	type result struct {
		code int
		err  error
	}
	over := make(chan result, 1)
	go func() {
		code, err := l.Run(ctx, o)
		over <- result{code, err}
	}()
	stop := func(sig os.Signal) {
		l.ended = true
		select {
		case signals <- sig:
		default: // two are enough
		}
	}
	for {
		select {
		case r := <-over:
			l.code = r.code
			if r.err != nil {
				l.fail(r.err)
			}
			return changed
		case sig := <-l.signals:
			stop(sig)
		case key := <-l.keys:
			if key == 'q' {
				stop(os.Interrupt)
			}
		case batch := <-l.watcher.Changes():
			changed = append(changed, batch...)
		case err := <-l.watcher.Errors():
			fmt.Fprintf(l.notes, "provium: watch: %v\n", err)
		}
	}
}

// await waits for the next run. Nil ends the loop.
func (l *loop) await(ctx context.Context, o *run.Options) *wish {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.signals:
			return nil
		case key := <-l.keys:
			switch key {
			case 'r', '\n', '\r':
				return &wish{}
			case 'f':
				return &wish{failed: true}
			case '/':
				if l.askFilter(o) {
					return &wish{}
				}
				fmt.Fprintln(l.notes, "provium: waiting for changes"+l.help())
			case 'q':
				return nil
			}
		case batch := <-l.watcher.Changes():
			if next := l.concerned(ctx, o, batch, false); next != nil {
				return next
			}
		case err := <-l.watcher.Errors():
			fmt.Fprintf(l.notes, "provium: watch: %v\n", err)
		}
	}
}

// askFilter reads a filter, and reports whether there is a new one.
func (l *loop) askFilter(o *run.Options) bool {
	l.shown.pause()
	defer l.shown.resume()
	line := liner.NewLiner()
	defer line.Close()
	line.SetCtrlCAborts(true)
	text, err := line.PromptWithSuggestion("filter: ", o.Select.Filter, -1)
	if err != nil {
		return false
	}
	text = strings.TrimSpace(text)
	l.filter = &text
	return true
}

// look reads what the selected tests use, and watches it.
func (l *loop) look(ctx context.Context, o *run.Options) {
	cfg := o.Config
	all := *o
	all.Select.Only, all.Select.RerunFailed, all.Select.AllowEmpty = nil, false, true
	paths, _, err := run.List(ctx, all, false)
	if err != nil {
		return // the run says so
	}
	for i, path := range paths {
		paths[i] = inDir(cfg.Dir, path)
	}
	cache := &fixture.Cache{Dir: cfg.CacheDir}
	l.graph = watch.NewGraph(paths, watch.Project{Dir: cfg.Dir, Roots: cfg.Roots,
		Tracked: func(name string) []string {
			source, _, err := fixtures.Find(cfg.Roots, name)
			if err != nil {
				return nil
			}
			return cache.Files(source)
		}})
	l.config = []string{cfg.Path}
	for _, p := range cfg.Profiles {
		if p.Dir != cfg.Dir {
			l.config = append(l.config, filepath.Join(p.Dir, "profile.provium.toml"))
		}
	}
	l.watch(o, l.graph.Files())
}

// watch begins to watch the directories of tests, and files that tests use.
func (l *loop) watch(o *run.Options, used []string) {
	trees := slices.Clone(o.Config.Roots)
	for _, given := range o.Select.Paths {
		if info, err := os.Stat(inDir(o.Select.WorkDir, given)); err == nil && info.IsDir() {
			trees = append(trees, inDir(o.Select.WorkDir, given))
		}
	}
	if len(trees) == 0 {
		trees = append(trees, o.Select.WorkDir)
	}
	var errs []error
	for _, dir := range trees {
		errs = append(errs, l.watcher.Tree(dir))
	}
	for _, file := range append(slices.Clone(l.config), used...) {
		errs = append(errs, l.watcher.File(file))
	}
	for _, file := range used {
		l.tracked[file] = !strings.HasSuffix(file, ".lua")
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintf(l.notes, "provium: %v\n", err)
	}
}

// concerned returns what changed files concern, nil if that is nothing. running says that they
// have changed while tests ran: a test that writes a file which it uses does not start itself
// again and again.
func (l *loop) concerned(ctx context.Context, o *run.Options, changed []string, running bool) *wish {
	if running {
		changed = slices.DeleteFunc(changed, func(path string) bool { return l.tracked[path] && l.cause[path] })
	}
	if len(changed) == 0 || o.Config == nil {
		return nil
	}
	only := map[string]bool{}
	cause := map[string]bool{}
	before := l.graph
	l.look(ctx, o)
	for _, path := range changed {
		if slices.Contains(l.config, path) || slices.ContainsFunc(l.config, func(c string) bool {
			return canonical(c) == path
		}) {
			l.cause = map[string]bool{}
			return &wish{}
		}
		for _, g := range []*watch.Graph{before, l.graph} {
			if g == nil {
				continue
			}
			for _, test := range g.Tests(path) {
				only[canonical(test)], cause[path] = true, true
			}
		}
	}
	maps.DeleteFunc(only, func(test string, _ bool) bool { // one that was removed
		_, err := os.Stat(test)
		return err != nil
	})
	if len(only) == 0 {
		return nil
	}
	l.cause = cause
	return &wish{only: only}
}

func inDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func canonical(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return filepath.Clean(path)
}
