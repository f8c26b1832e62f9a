package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"provium/cmd/provium/internal/flagtext"
	"provium/cmd/provium/internal/hostcheck"
	"provium/internal/byhand"
	"provium/internal/config"
	"provium/internal/debugger"
	"provium/internal/machine"
	"provium/internal/ready"
	"provium/internal/run"
	"provium/internal/terminal"
	"provium/internal/topology"
	"provium/internal/userland"
)

// builtinProfile is the one profile where there is no provium.toml.
const builtinProfile = "host"

// guestFlags say what guest is wanted, for commands that boot one outside of a run.
type guestFlags struct {
	config, kernel, qemu string
	userland             string
	share                []string
	ready                *ready.Condition // nil: as in the profile
	memory               int64
	cpus                 int
	cold, unchecked      bool
	gdb                  bool

	opts  topology.BootOpts // further ones of a command
	agent *bool             // in the initrd; nil: as in the profile
}

func (f *guestFlags) group() flagGroup {
	g := newGroup("The guest")
	g.config(&f.config)
	g.flags.Var(value(&f.kernel, "path", flagtext.Path), "kernel", "boot the kernel `PATH`")
	g.flags.Var(value(&f.userland, "userland", flagtext.NonEmpty), "userland",
		"root file system of the guest: `U` is busybox, host, a directory, a tar file or oci:DIR")
	g.flags.Var(list(&f.share, "dir", flagtext.NonEmpty), "share",
		"share the directory `DIR` with the guest for writing, at the same path, or at DIR:/PATH; may be repeated")
	g.flags.Var(value(&f.ready, "condition", parseReady), "ready",
		"when the boot is done: `WHEN` is agent, init, systemd, command:CMD or console:TEXT")
	g.flags.Var(value(&f.qemu, "path", flagtext.Path), "qemu", "run the guest with the QEMU `PATH`")
	g.flags.Var(value(&f.memory, "size", flagtext.GuestMemory), "mem",
		"memory of the guest, `SIZE` such as 2G (default 512M)")
	g.flags.Var(value(&f.cpus, "count", flagtext.Count), "cpus", "vCPUs of the guest, `N` (default 1)")
	g.flags.BoolVar(&f.cold, "cold", false, "boot the guest, take it not from the boot cache")
	g.flags.BoolVar(&f.unchecked, "no-preflight", false, "skip the checks at the start")
	return g
}

// withDebugger returns the group, with the flag of commands that boot their guest by withGuest.
func (f *guestFlags) withDebugger() flagGroup {
	g := f.group()
	g.flags.BoolVar(&f.gdb, "gdb", false, "have the guest serve gdb, and print how to connect")
	return g
}

func parseReady(text string) (*ready.Condition, error) {
	c, err := ready.Parse(text)
	return &c, err
}

// configFor reads the configuration. Without a provium.toml it is one with an automatic profile.
func (p *program) configFor(f *guestFlags) (*config.Config, error) {
	cfg, err := p.loadConfig(f.config, f.kernel, f.qemu)
	if f.config == "" && config.IsMissing(err) {
		return config.Builtin(p.dir, builtinProfile, p.configEnv(f.kernel, f.qemu))
	}
	return cfg, err
}

// chosen returns the profile of a name; "" and "." are the first by sorted name, and the
// automatic one where the configuration has none.
func (p *program) chosen(cfg *config.Config, name string, f *guestFlags) (*config.Config, string, error) {
	if name == "" || name == "." {
		if names := cfg.ProfileNames(); len(names) > 0 {
			return cfg, names[0], nil
		}
		builtin, err := config.Builtin(cfg.Dir, builtinProfile, p.configEnv(f.kernel, f.qemu))
		return builtin, builtinProfile, err
	}
	_, err := profile(cfg, name)
	return cfg, name, err
}

// guestOptions returns the options of a run that has one guest, and the name of its profile.
func (p *program) guestOptions(f *guestFlags, name string) (run.Options, string, error) {
	cfg, err := p.configFor(f)
	if err != nil {
		return run.Options{}, "", err
	}
	if cfg, name, err = p.chosen(cfg, name, f); err != nil {
		return run.Options{}, "", err
	}
	if f.userland != "" {
		if err := setUserland(cfg, name, f.userland, p.absolute); err != nil {
			return run.Options{}, "", err
		}
	}
	if err := addShares(cfg, name, f.share, p.absolute); err != nil {
		return run.Options{}, "", err
	}
	if f.ready != nil {
		pr := cfg.Profiles[name]
		pr.Ready = *f.ready
		cfg.Profiles[name] = pr
	}
	if f.agent != nil {
		if err := setAgent(cfg, name, *f.agent); err != nil {
			return run.Options{}, "", err
		}
	}
	if !f.unchecked {
		if err := p.preflight(cfg, f.qemu); err != nil {
			return run.Options{}, "", err
		}
	}
	o := run.Options{Config: cfg, Self: p.self, Version: p.identity(), TempBase: p.tempBase(), Cold: f.cold,
		Overlay: p.absolute(p.getenv("PROVIUM_OVERLAY")), Stdout: p.stdout, Stderr: p.stderr}
	if o.ImageCache, err = p.caches().images(); err != nil {
		return o, "", err
	}
	if o.BootCache, err = p.caches().boots(); err != nil {
		return o, "", err
	}
	if path, err := p.programs(nil).Look(cmp.Or(p.programPath(f.qemu), hostcheck.QEMUProgram)); err == nil {
		o.QEMU = path
	}
	return o, name, nil
}

// spec is the guest that is wanted of a profile.
func (f *guestFlags) spec(profile string) byhand.Spec {
	spec := byhand.Spec{Name: profile, Profile: profile, Opts: f.opts}
	spec.Opts.Memory, spec.Opts.CPUs = f.memory, f.cpus
	return spec
}

// setUserland replaces the userland of a profile, or its initrd.
func setUserland(cfg *config.Config, name, text string, absolute func(string) string) error {
	from, err := userland.Parse(text, func(path string) (string, error) { return absolute(path), nil })
	if err != nil {
		return fmt.Errorf("--userland: %w", err)
	}
	pr := cfg.Profiles[name]
	if !pr.InjectAgent {
		return fmt.Errorf("--userland: profile `%s` has inject_agent = false, and a userland needs the agent", name)
	}
	pr.Userland, pr.Initrd = from, ""
	if pr.Ready == (ready.Condition{}) && from.MayHaveInit() {
		pr.Ready = ready.Condition{Kind: ready.Init}
	}
	cfg.Profiles[name] = pr
	return nil
}

// addShares adds directories of the host to those that the guests of a profile may write to.
func addShares(cfg *config.Config, name string, dirs []string, absolute func(string) string) error {
	if len(dirs) == 0 {
		return nil
	}
	pr := cfg.Profiles[name]
	pr.Shape.Shares = slices.Clone(pr.Shape.Shares)
	for _, dir := range dirs {
		share, err := machine.ParseShare(dir, func(path string) (string, error) { return absolute(path), nil })
		if err != nil {
			return fmt.Errorf("--share: %w", err)
		}
		pr.Shape.Shares = append(pr.Shape.Shares, share)
	}
	err := machine.CheckShares(pr.Shape.Shares)
	if err == nil {
		err = pr.CheckShares()
	}
	if err != nil {
		return fmt.Errorf("--share: %w", err)
	}
	cfg.Profiles[name] = pr
	return nil
}

// setAgent has the guests of a profile boot with the agent in the initrd, or without.
func setAgent(cfg *config.Config, name string, on bool) error {
	pr := cfg.Profiles[name]
	hasRoot := pr.Cmdline != nil && strings.Contains(*pr.Cmdline, "root=")
	if !on && pr.Initrd == "" && !hasRoot && pr.CmdlineFile == "" {
		return fmt.Errorf("--agent=false: profile `%s` has no initrd and no `root=` of its own, and the built-in "+
			"userland needs the agent", name)
	}
	pr.InjectAgent = on
	cfg.Profiles[name] = pr
	return nil
}

// heapAtBoot is how much memory is used before it is collected during a boot, in bytes.
const heapAtBoot = 256 << 20

// collectLater turns the collection of garbage off until collect is called: it took a third
// of the time up to the start of QEMU.
func collectLater() (collect func()) {
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(heapAtBoot)
	return sync.OnceFunc(func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	})
}

// withGuest boots the guest that is wanted, calls do, and ends it. A signal that comes before
// do ends all; do gets those that come later.
func (p *program) withGuest(ctx context.Context, f *guestFlags, profile string, which []os.Signal,
	do func(context.Context, *byhand.Guest, <-chan os.Signal) (int, error)) (code int, err error) {
	o, profile, err := p.guestOptions(f, profile)
	if err != nil {
		return byhand.ExitOurs, err
	}
	signals, stop := p.notify(which...)
	defer stop()
	defer func() {
		if interrupt := (*byhand.Interrupt)(nil); code == byhand.ExitOurs && errors.As(err, &interrupt) {
			code, err = byhand.SignalCode(int(interrupt.Signal)), nil
		}
	}()
	booting, booted := byhand.Interruptible(ctx, signals)
	defer func() { booted() }()
	collect := collectLater()
	defer collect()
	hosted, err := run.OpenByHand(booting, o, profile)
	if err != nil {
		return byhand.ExitOurs, err
	}
	defer hosted.Close()
	spec := f.spec(profile)
	if terminal.Is(p.stderr) {
		spec.Patience = p.stderr
	}
	g, err := byhand.Boot(booting, hosted.Host(), spec)
	if err != nil {
		return byhand.ExitOurs, err
	}
	defer func() {
		if cerr := g.Close(); cerr != nil {
			fmt.Fprintf(p.stderr, "provium: %v\n", cerr)
		}
	}()
	collect()
	if f.gdb {
		d, err := debugger.Open(booting, g.VM)
		if err != nil {
			return byhand.ExitOurs, err
		}
		fmt.Fprintf(p.stderr, "provium: %s\n", terminal.Escape(d.Command()))
	}
	booted()
	booted = func() {}
	if err := context.Cause(booting); errors.As(err, new(*byhand.Interrupt)) {
		return byhand.ExitOurs, err
	}
	return do(ctx, g, signals)
}

// onTerminal returns the terminal that the program runs on, with keys passed on as they are.
// restore must be called.
func (p *program) onTerminal() (t *byhand.Terminal, restore func(), err error) {
	back, err := terminal.MakeRaw(p.stdin)
	if err != nil {
		return nil, nil, err
	}
	t = &byhand.Terminal{Keys: p.stdin, Screen: p.stdout,
		Size: func() (rows, cols uint16) { return terminal.Size(p.stdout) }}
	for _, name := range []string{"TERM", "COLORTERM", "NO_COLOR"} {
		if v, ok := p.env(name); ok {
			t.Env = append(t.Env, name+"="+v)
		}
	}
	return t, func() {
		if err := back(); err != nil {
			fmt.Fprintf(p.stderr, "provium: %v\n", err)
		}
	}, nil
}

// isOnTerminal reports whether a person can see and type.
func (p *program) isOnTerminal() bool {
	return p.stdin != nil && terminal.Is(p.stdin) && terminal.Is(p.stdout)
}
