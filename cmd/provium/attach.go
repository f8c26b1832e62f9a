package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"provium/internal/attach"
	"provium/internal/byhand"
	"provium/internal/tempdir"
	"provium/internal/terminal"
)

const attachHelp = `Opens a shell in a guest of a run that is under way, or paused, or runs CMD there:
as a process of its own beside the test, on a terminal if there is one. GUEST is
the name of the VM or its number in the list; without it, it is the only guest.
The runs are those of this user with the same TMPDIR.

When the test takes a snapshot of the guest, or ends it, the shell is ended, with
all that runs in it. The exit code is that of the shell or of CMD, as that of
` + "`provium exec`" + `.`

func (p *program) attachCommand() *cobra.Command {
	var list bool
	how := newGroup("Flags")
	how.flags.BoolVar(&list, "list", false, "list the guests of all runs, and enter none")
	cmd := &cobra.Command{
		Use:   "attach [GUEST] [FLAGS] [-- CMD [ARGS...]]",
		Short: "List or enter the guests of runs that are under way",
		Long:  attachHelp,
		Example: `  provium attach --list
  provium attach server
  provium attach server -- dmesg`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, f := range p.running() {
				names = append(names, f.guest.Name+"\t"+f.where())
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var command []string
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				args, command = args[:n], args[n:]
				if len(command) == 0 || command[0] == "" {
					return ours(usage(cmd, "expected a command behind `--`"))
				}
			}
			if len(args) > 1 {
				return ours(usage(cmd, "expected one guest, got `%s`, too; a command stands behind `--`", args[1]))
			}
			if list {
				if len(args)+len(command) > 0 {
					return ours(usage(cmd, "--list takes no guest and no command"))
				}
				return ours(writeRunning(cmd.OutOrStdout(), p.running()))
			}
			var err error
			p.code, err = p.attach(cmd.Context(), strings.Join(args, ""), command)
			return coded(p.code, err)
		},
	}
	finish(cmd, how)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return ours(flagError(cmd, err)) })
	return cmd
}

// runningGuest is a guest of a run that is under way.
type runningGuest struct {
	run   *attach.Run
	guest attach.Guest
}

// where says of which run a guest is.
func (g *runningGuest) where() string {
	if g.run.File == "" {
		return fmt.Sprintf("by hand, process %d", g.run.PID)
	}
	return g.run.File
}

// running returns the guests of all runs of this user.
func (p *program) running() (guests []runningGuest) {
	for _, r := range attach.Find(tempdir.List(p.tempBase())) {
		for _, g := range r.Guests {
			guests = append(guests, runningGuest{&r, g})
		}
	}
	return guests
}

func writeRunning(out io.Writer, guests []runningGuest) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, g := range guests {
		line := fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%s", g.guest.CID, g.guest.Name, g.guest.Profile, g.guest.State,
			g.where(), g.run.Status)
		fmt.Fprintln(w, terminal.Escape(strings.TrimRight(line, "\t")))
	}
	if err := w.Flush(); err != nil {
		return outputError(err)
	}
	_, err := fmt.Fprintf(out, "%d guest(s)\n", len(guests))
	return outputError(err)
}

// chooseGuest finds the guest that is meant; "" is the only one.
func chooseGuest(guests []runningGuest, name string) (*runningGuest, error) {
	var found []runningGuest
	var names []string
	for _, g := range guests {
		if name == "" || g.guest.Name == name || strconv.Itoa(int(g.guest.CID)) == name {
			found = append(found, g)
		}
		names = append(names, g.guest.Name)
	}
	if len(found) == 1 {
		return &found[0], nil
	}
	var list strings.Builder
	if err := writeRunning(&list, guests); err != nil {
		return nil, err
	}
	switch {
	case len(guests) == 0:
		return nil, errors.New("no run of this user has a guest now (of runs with another TMPDIR nothing is known)")
	case len(found) == 0:
		return nil, fmt.Errorf("no guest is called `%s`%s; there are\n%s", name, didYouMean(name, names), list.String())
	case name == "":
		return nil, fmt.Errorf("which guest? There are\n%s", list.String())
	}
	return nil, fmt.Errorf("several guests are called `%s`, give the number of one; there are\n%s", name, list.String())
}

func (p *program) attach(ctx context.Context, name string, command []string) (int, error) {
	g, err := chooseGuest(p.running(), name)
	if err != nil {
		return byhand.ExitOurs, err
	}
	enter := &attach.Enter{CID: g.guest.CID, Args: command}
	which := execSignals
	streams := &attach.Streams{Out: p.stdout, Err: p.stderr}
	if !isNull(p.stdin) {
		streams.In = p.stdin
	}
	switch {
	case p.isOnTerminal():
		t, restore, err := p.onTerminal()
		if err != nil {
			return byhand.ExitOurs, err
		}
		defer restore()
		rows, cols := t.Size()
		enter.Env, enter.Terminal, streams.Size = t.Env, &attach.Size{Rows: rows, Cols: cols}, t.Size
		which = terminalSignals
	case len(command) == 0:
		return byhand.ExitOurs, errors.New("attach needs a terminal; `provium attach GUEST -- CMD` does not")
	}
	signals, stop := p.notify(which...)
	defer stop()
	streams.Signals = signals
	return g.run.Enter(ctx, enter, streams)
}
