package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"provium/internal/dialog"
	"provium/internal/repl"
	"provium/internal/run"
	"provium/internal/script"
	"provium/internal/terminal"
)

const replHelp = `Boots a guest, or takes it from the boot cache, and reads Lua line by line: ` + "`vm`" + ` is
the guest, ` + "`provium`" + ` the lab, as in a test file. Values are shown, errors end
nothing. Tab completes, the arrow keys bring earlier lines back, Ctrl-R searches
them, Ctrl-C ends what runs, Ctrl-D or exit leaves.

PROFILE is one of provium.toml; without it, or as ` + "`.`" + `, it is the first by name,
and an automatic one if there is none.`

func (p *program) replCommand() *cobra.Command {
	var f guestFlags
	name, fixture := "repl", ""
	start := newGroup("The start")
	start.flags.StringVar(&name, "name", "repl", "call the VM `N`")
	start.flags.StringVar(&fixture, "fixture", "", "start from the fixture `NAME`, not from a boot")
	cmd := &cobra.Command{
		Use:               "repl [PROFILE] [FLAGS]",
		Short:             "Boot a guest and type Lua that works with it",
		Long:              replHelp,
		ValidArgsFunction: p.completeProfiles(&f.config),
		RunE: func(cmd *cobra.Command, args []string) error {
			profile, err := oneProfile(cmd, args)
			if err != nil {
				return err
			}
			if name == "" {
				return usage(cmd, "--name: expected the name of a VM, got an empty one")
			}
			return p.repl(cmd.Context(), &f, profile, name, fixture)
		},
	}
	finish(cmd, start, f.group())
	return cmd
}

// terminalTalk returns the terminal of the process to type Lua on.
func (p *program) terminalTalk() *repl.Terminal {
	t := &repl.Terminal{Out: p.stdout}
	if !p.caches().lost {
		t.History = filepath.Join(p.caches().home, cacheName, "repl_history")
	}
	return t
}

func (p *program) repl(ctx context.Context, f *guestFlags, profile, name, fixture string) error {
	if !p.isOnTerminal() {
		return errors.New("repl needs a terminal; `provium FILE` runs Lua from a file")
	}
	o, profile, err := p.guestOptions(f, profile)
	if err != nil {
		return err
	}
	profiles := []string{profile}
	if fixture != "" {
		profiles = nil // a fixture may boot any
		if _, err := o.Source(fixture); err != nil {
			return err
		}
	}
	if o.Config.CacheDir, err = p.caches().fixtures(o.Config.CacheDir); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals, stop := p.signals()
	defer stop()
	hosted, err := run.OpenByHand(ctx, o, profiles...)
	if err != nil {
		return err
	}
	defer hosted.Close()
	talk, exchange := p.terminalTalk(), dialog.New()
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case sig := <-signals:
				if !talk.Interrupt() {
					cancel(fmt.Errorf("interrupted (%v)", sig))
				}
			case <-over:
				return
			}
		}
	}()
	f.opts.Memory, f.opts.CPUs = f.memory, f.cpus
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		err := hosted.Converse(ctx, script.Interactive{Name: name, Profile: profile, Fixture: fixture, Opts: &f.opts,
			Dialog: exchange, Ready: func(text string) { ready <- text }})
		exchange.End(err)
		ended <- err
	}()
	var text string
	select {
	case err := <-ended:
		return err
	case text = <-ready:
	}
	defer terminal.Keep(p.stdin)()
	talked := make(chan error, 1)
	go func() {
		talked <- talk.Talk(text+"\nType Lua, as vm:run(\"uname -a\"). Ctrl-D or exit leaves.", exchange)
	}()
	select {
	case err = <-talked:
		return errors.Join(<-ended, err)
	case err = <-ended: // while a line is read, which nothing but a key would end
		return err
	}
}
