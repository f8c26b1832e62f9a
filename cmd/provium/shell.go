package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"

	"provium/internal/byhand"
	"provium/internal/run"
)

const shellHelp = `Boots a guest, or takes it from the boot cache, and opens a shell in it, or runs
CMD, on a terminal of the guest: it follows the size of this one, and Ctrl-C goes
to what runs there. CMD also runs without a terminal, with standard input, output
and error as they are here. No provium.toml is needed.

PROFILE is one of provium.toml; without it, or as ` + "`.`" + `, it is the first by name,
and an automatic one if there is none. The exit code is that of the shell or of
CMD, as that of ` + "`provium exec`" + `.`

// terminalSignals are those that a program on a terminal gets, beside the keys.
var terminalSignals = []os.Signal{syscall.SIGWINCH, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT}

func (p *program) shellCommand() *cobra.Command {
	var f guestFlags
	cmd := &cobra.Command{
		Use:   "shell [PROFILE|.] [FLAGS] [-- CMD [ARGS...]]",
		Short: "Open a shell in a guest, or run a command on a terminal there",
		Long:  shellHelp,
		Example: `  provium shell
  provium shell debian --mem 2G
  provium shell . -- dmesg`,
		ValidArgsFunction: p.completeProfiles(&f.config),
		RunE: func(cmd *cobra.Command, args []string) error {
			var command []string
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				args, command = args[:n], args[n:]
				if len(command) == 0 || command[0] == "" {
					return ours(usage(cmd, "expected a command behind `--`"))
				}
			}
			name, err := oneProfile(cmd, args)
			if err != nil {
				return ours(err)
			}
			p.code, err = p.shell(cmd.Context(), &f, name, command)
			return coded(p.code, err)
		},
	}
	finish(cmd, f.withDebugger())
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return ours(flagError(cmd, err)) })
	return cmd
}

// oneProfile returns the one profile that may be named, "" for none.
func oneProfile(cmd *cobra.Command, args []string) (string, error) {
	switch {
	case len(args) == 0:
		return "", nil
	case len(args) > 1:
		return "", usage(cmd, "expected one profile, got `%s`, too; a command stands behind `--`", args[1])
	case args[0] == "":
		return "", usage(cmd, "expected the name of a profile, got an empty one")
	}
	return args[0], nil
}

func (p *program) shell(ctx context.Context, f *guestFlags, profile string, command []string) (int, error) {
	if !p.isOnTerminal() {
		if len(command) == 0 {
			return byhand.ExitOurs, fmt.Errorf("shell needs a terminal; `provium shell PROFILE -- CMD` and " +
				"`provium exec -- CMD` do not")
		}
		c := &byhand.Command{Args: command, InGuest: true}
		return p.exec(ctx, f, profile, c)
	}
	return p.withGuest(ctx, f, profile, terminalSignals, func(ctx context.Context, g *byhand.Guest,
		signals <-chan os.Signal) (int, error) {
		t, restore, err := p.onTerminal()
		if err != nil {
			return byhand.ExitOurs, err
		}
		defer restore()
		t.Signals = signals
		return g.Shell(ctx, command, t)
	})
}

const consoleHelp = `Boots a guest with this terminal on its serial console, from the first line of the
boot on. Ctrl-] quits and ends the guest. The guest needs no agent. A guest with
the built-in userland has a shell on its console; others have what their init
starts there. QEMU ARGS are added to the command line of QEMU.`

func (p *program) consoleCommand() *cobra.Command {
	var f guestFlags
	var cmdline string
	var agent, printed bool
	boot := newGroup("The boot")
	boot.flags.StringVar(&cmdline, "cmdline", "", "add `TEXT` to the kernel's command line")
	boot.flags.BoolVar(&agent, "agent", true,
		"have the agent in the initrd, or not: --agent=false (default as in the profile)")
	boot.flags.Lookup("agent").DefValue = "false" // which the help leaves out
	boot.flags.BoolVar(&printed, "print-command", false,
		"boot nothing, print a command line of QEMU that boots such a guest by itself")
	cmd := &cobra.Command{
		Use:   "console PROFILE [FLAGS] [-- QEMU ARGS...]",
		Short: "Boot a guest with the terminal on its serial console (Ctrl-] quits)",
		Long:  consoleHelp,
		Example: `  provium console host
  provium console debian --mem 2G -- -device edu`,
		ValidArgsFunction: p.completeProfiles(&f.config),
		RunE: func(cmd *cobra.Command, args []string) error {
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				args, f.opts.Shape.Args = args[:n], args[n:]
			}
			name, err := oneProfile(cmd, args)
			if err != nil {
				return err
			}
			if name == "" {
				return usage(cmd, "expected the name of a profile; `.` is the first one")
			}
			if cmd.Flags().Changed("agent") {
				f.agent = &agent
			}
			f.opts.CmdlineAppend = cmdline
			if printed {
				return p.printCommand(cmd.Context(), &f, name)
			}
			p.code, err = p.console(cmd.Context(), &f, name)
			return err
		},
	}
	finish(cmd, boot, f.withDebugger())
	return cmd
}

// printCommand prints a command line of QEMU for a guest.
func (p *program) printCommand(ctx context.Context, f *guestFlags, name string) error {
	o, name, err := p.guestOptions(f, name)
	if err != nil {
		return err
	}
	ctx, done := p.interruptible(ctx)
	defer done()
	hosted, err := run.OpenByHand(ctx, o, name)
	if err != nil {
		return err
	}
	defer hosted.Close()
	args, err := byhand.CommandLine(ctx, hosted.Host(), f.spec(name))
	if err != nil {
		return err
	}
	for i, arg := range args {
		if args[i] = arg; strings.ContainsFunc(arg, isSpecial) || arg == "" {
			args[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	_, err = fmt.Fprintln(p.stdout, strings.Join(args, " "))
	return outputError(err)
}

// isSpecial reports whether a shell may not take a character as it is.
func isSpecial(r rune) bool {
	isWord := r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r))
	return !isWord && !strings.ContainsRune("-_./:=,+%@", r)
}

func (p *program) console(ctx context.Context, f *guestFlags, profile string) (int, error) {
	if !p.isOnTerminal() {
		return 0, fmt.Errorf("console needs a terminal; `vm:console()` reads and writes one in a test")
	}
	f.opts.Wait = "none"
	return p.withGuest(ctx, f, profile, terminalSignals, func(ctx context.Context, g *byhand.Guest,
		signals <-chan os.Signal) (int, error) {
		t, restore, err := p.onTerminal()
		if err != nil {
			return byhand.ExitOurs, err
		}
		defer func() {
			restore()
			fmt.Fprintln(p.stderr)
		}()
		t.Signals = signals
		if err := g.Console(ctx, t); err != nil {
			return byhand.ExitOurs, err
		}
		return 0, nil
	})
}
