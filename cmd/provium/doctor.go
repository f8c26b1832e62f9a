package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"provium/cmd/provium/internal/hostcheck"
	"provium/internal/cachedir"
	"provium/internal/config"
	"provium/internal/image"
	"provium/internal/proc"
	"provium/internal/run"
	"provium/internal/sched"
)

func (p *program) doctorCommand() *cobra.Command {
	var configPath string
	flags := newGroup("Flags")
	flags.config(&configPath)
	cmd := &cobra.Command{
		Use:   "doctor [FLAGS]",
		Short: "Check what this machine offers for running guests",
		Long: `Checks what this machine offers for running guests: each finding with what
follows from it and how to change that. The exit code is 0 if guests can boot,
else 2.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(cmd, "expected no arguments, got `%s`", args[0])
			}
			return p.doctor(cmd, configPath)
		},
	}
	finish(cmd, flags)
	return cmd
}

func (p *program) doctor(cmd *cobra.Command, configPath string) error {
	ctx, done := p.interruptible(cmd.Context())
	defer done()
	starter := proc.NewStarter()
	defer starter.Close()
	home := p.cacheHome()
	var state cachedir.State
	if home != "" {
		state = cachedir.Inspect(filepath.Join(home, cacheName, "images"), home) // before anything is tightened
	}
	dir, err := p.caches().images()
	if err != nil {
		return err
	}
	// Without a Runner the store downloads nothing.
	images, err := image.NewStore(image.Config{CacheDir: dir,
		Overlay: p.absolute(p.getenv("PROVIUM_OVERLAY")), Executable: p.self})
	if err != nil {
		return err
	}
	root := os.DirFS("/")
	host := hostcheck.Host{
		Root: root, UID: p.uid, TempBase: p.tempBase(), Cache: home, CacheState: state, Kernels: images,
		Open: openDevice,
		Programs: p.programs(func(ctx context.Context, path string, args ...string) ([]byte, error) {
			out, _, err := starter.Run(ctx, "/", nil, path, args...)
			return out, err
		}),
		Config: func() (*config.Config, error) { return p.loadConfig(configPath, "", "") },
		Budget: func() (sched.Amount, error) { return sched.HostBudget(root) },
	}
	results := hostcheck.All(ctx, host)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := writeChecks(cmd.OutOrStdout(), results, p.colors()); err != nil {
		return err
	}
	for _, r := range results {
		if r.Status == hostcheck.Failure {
			p.code = run.ExitError
		}
	}
	return nil
}

// openDevice opens a device file for reading and writing and closes it again.
func openDevice(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// writeChecks shows the results, and what they come to.
func writeChecks(w io.Writer, results []hostcheck.Result, color bool) error {
	paint := [...]string{"\x1b[32m", "\x1b[36m", "\x1b[33m", "\x1b[31m"}
	var b strings.Builder
	var failed []string
	for _, r := range results {
		status := fmt.Sprintf("%-7s", r.Status)
		if color {
			status = paint[r.Status] + status + "\x1b[0m"
		}
		fmt.Fprintf(&b, "%s  %s: %s\n", status, r.Name, indented(r.Found))
		if r.Effect != "" {
			fmt.Fprintf(&b, "         %s\n", indented(r.Effect))
		}
		if r.Remedy != "" {
			fmt.Fprintf(&b, "         remedy: %s\n", indented(r.Remedy))
		}
		if r.Status == hostcheck.Failure {
			failed = append(failed, r.Name)
		}
	}
	if len(failed) == 0 {
		fmt.Fprintf(&b, "\nGuests can boot on this machine.\n")
	} else {
		fmt.Fprintf(&b, "\nGuests cannot boot: %s.\n", strings.Join(failed, ", "))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return errors.Join(errors.New("output"), err)
	}
	return nil
}

func indented(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n         ")
}
