//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"provium/internal/guest"
	"provium/internal/image"
	"provium/internal/lab"
	"provium/internal/topology"
	"provium/internal/userland"
)

const userlandRounds = 9

// systemdTree is a root file system with systemd, which a build of the test profile `services` makes.
const systemdTree = "dist/profiles/services/root"

// userland measures guests whose root file system is not the built-in one: a system that systemd has brought up,
// from the boot cache, and the first program of the host against the second.
func (b *bench) userland(ctx context.Context) error {
	return errors.Join(b.systemd(ctx), b.firstProgram(ctx))
}

// execOutput runs a command in a guest by the built program, and returns what it has printed.
func (b *bench) execOutput(ctx context.Context, args ...string) (string, time.Duration, error) {
	program, err := filepath.Abs(programFile)
	if err != nil {
		return "", 0, err
	}
	begun := time.Now()
	stdout, stderr, err := b.starter.Run(ctx, b.dir, nil, program, append([]string{"exec"}, args...)...)
	if err != nil {
		err = fmt.Errorf("%w\n%s%s", err, stdout, stderr)
	}
	return string(stdout), time.Since(begun), err
}

func (b *bench) systemd(ctx context.Context) error {
	tree, err := filepath.Abs(systemdTree)
	if err != nil {
		return err
	}
	if _, err := os.Stat(tree); err != nil {
		return fmt.Errorf("%w (`provium prepare` in the project's directory makes it)", err)
	}
	const memory = "384M"
	system := []string{"--mem", memory, "--userland", tree, "--ready", "systemd", "--", "true"}
	builtin := []string{"--mem", memory, "--", "true"}
	var ready, plain sample
	for round := range userlandRounds + 1 {
		for _, of := range []struct {
			args []string
			to   *sample
		}{{system, &ready}, {builtin, &plain}} {
			_, took, err := b.execOutput(ctx, of.args...)
			if err != nil {
				return err
			}
			if round > 0 { // the first one fills the boot cache
				*of.to = append(*of.to, took)
			}
		}
	}
	b.table.atMost("exec in a system that systemd has brought up / in the built-in userland, both from the boot cache",
		ready, 2, plain)
	return nil
}

// warmingBoots are the guests of a process before those that are copies: the first one fills the boot cache or is
// served from it, the second one leaves a template.
const warmingBoots = 2

// firstProgram measures, inside of guests with the host's programs, the first run of Python and the second: in guests
// of one process, and in the only guest of one.
func (b *bench) firstProgram(ctx context.Context) error {
	h, err := b.programsHost()
	if err != nil {
		return err
	}
	var first, second, alone, next, least, then sample
	if err := b.programsOf(ctx, h, userlandRounds+warmingBoots, warmingBoots, &first, &second); err != nil {
		return err
	}
	for round := range userlandRounds + 1 {
		out, _, err := b.execOutput(ctx, "--userland", "host", "--", "sh", "-c", pythonTwice)
		if err != nil {
			return err
		}
		if round == 0 {
			continue // it fills the boot cache
		}
		if err := addTimes(out, &alone, &next); err != nil {
			return err
		}
		// The floor: a QEMU that is started for the guest alone, and loads the same state.
		if h, err = b.programsHost(); err != nil {
			return err
		}
		h.Starter, h.Templates = b.starter, nil
		if err := b.programsOf(ctx, h, 1, 0, &least, &then); err != nil {
			return err
		}
	}
	b.table.atMost("first `python3 -c 1` of a guest with the host's programs / the second", first, 1.3, second)
	b.table.info("  the same in the only guest of a process", alone.String(), next.String(),
		fmt.Sprintf("%.2f", float64(alone.median())/float64(next.median())))
	b.table.info("  the same in a plain QEMU that loads the same guest", least.String(), then.String(),
		fmt.Sprintf("%.2f", float64(least.median())/float64(then.median())))
	b.table.floor("  the first in the only guest of a process / in the plain QEMU", alone, least)
	return nil
}

// programsHost returns a host whose guests have the programs of this machine.
func (b *bench) programsHost() (*lab.Host, error) {
	h, err := b.host()
	if err != nil {
		return nil, err
	}
	h.BootCache = filepath.Join(b.dir, "programs")
	h.Profiles["programs"] = &lab.Profile{Name: "programs",
		Image: image.Spec{Profile: "programs", Userland: userland.Source{Kind: userland.Host}}}
	return h, nil
}

// programsOf adds the first and the second Python of guests of one host, one guest after another, without those of the
// first few.
func (b *bench) programsOf(ctx context.Context, h *lab.Host, guests, without int, first, second *sample) (err error) {
	l := lab.New(h)
	defer func() {
		err = errors.Join(append(l.CloseScope(context.WithoutCancel(ctx)), err)...)
	}()
	for n := range guests {
		of, to := first, second
		if n < without {
			of, to = nil, nil
		}
		if err := b.programsTwice(ctx, l, n, of, to); err != nil {
			return err
		}
	}
	return nil
}

const pythonTwice = `date +%s%N; python3 -c 1; date +%s%N; python3 -c 1; date +%s%N`

// programsTwice boots one guest more, and adds how long its first and its second Python took.
func (b *bench) programsTwice(ctx context.Context, l *lab.Lab, round int, first, second *sample) error {
	vm, err := l.DeclareVM(fmt.Sprintf("programs%d", round), "programs", &topology.BootOpts{Memory: guestMemory})
	if err != nil {
		return err
	}
	if err := vm.Boot(ctx, nil); err != nil {
		return err
	}
	if first != nil {
		r, err := vm.Run(ctx, guest.RunRequest{Shell: pythonTwice})
		if err != nil {
			return err
		}
		if err := addTimes(string(r.Stdout), first, second); err != nil {
			return err
		}
	}
	return vm.Shutdown(ctx)
}

// addTimes adds the two times between three that a guest has printed.
func addTimes(out string, first, second *sample) error {
	var at []int64
	for text := range strings.FieldsSeq(out) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("the guest printed %q: %w", out, err)
		}
		at = append(at, n)
	}
	if len(at) != 3 {
		return fmt.Errorf("the guest printed %q, not three times", out)
	}
	*first, *second = append(*first, time.Duration(at[1]-at[0])), append(*second, time.Duration(at[2]-at[1]))
	return nil
}
