package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"provium/cmd/provium/internal/flagtext"
	"provium/cmd/provium/internal/listing"
	"provium/internal/config"
	"provium/internal/image"
	"provium/internal/preparation"
	"provium/internal/proc"
	"provium/internal/run"
)

func (p *program) imageCommand() *cobra.Command {
	return commandGroup("image", "Show, build and clean what guests boot from",
		p.imageProfileCommand("show", "Show the kernel, initrd, modules and command line of profiles", false),
		p.imageProfileCommand("build", "Build what profiles boot from, and copy it out if wanted", true),
		p.imageListCommand(), p.imageCleanCommand(), p.imageOverlayCommand())
}

// imageStore opens the cache of images; starter may be nil if no kernel is to
// be downloaded.
func (p *program) imageStore(starter *proc.Starter) (*image.Store, error) {
	dir, err := p.caches().images()
	if err != nil {
		return nil, err
	}
	cfg := image.Config{
		CacheDir: dir, Overlay: p.absolute(p.getenv("PROVIUM_OVERLAY")), Executable: p.self,
		Notice: func(text string) { fmt.Fprintf(p.stderr, "provium: %s\n", text) },
	}
	if starter != nil {
		cfg.Runner = starter
	}
	return image.NewStore(cfg)
}

// noArguments is for commands that take flags only.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, "expected no arguments, got `%s`", args[0])
	}
	return nil
}

// imageProfileCommand is `image show` or, with export, `image build`.
func (p *program) imageProfileCommand(verb, short string, export bool) *cobra.Command {
	var configPath, kernel, name, out string
	flags := newGroup("Flags")
	flags.flags.Var(value(&name, "name", flagtext.NonEmpty), "profile", "only the profile `P` (default all)")
	if export {
		flags.flags.Var(value(&out, "path", flagtext.Path), "out",
			"copy kernel, initrd and cmdline to the directory `DIR`, with several profiles to one below it for each")
	}
	flags.config(&configPath)
	flags.flags.Var(value(&kernel, "path", flagtext.Path), "kernel", "boot the kernel `PATH` in every profile")
	cmd := &cobra.Command{
		Use:   verb + " [FLAGS]",
		Short: short,
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.loadConfig(configPath, kernel, "")
			if err != nil {
				return err
			}
			profiles, err := chooseProfiles(cfg, name)
			if err != nil {
				return err
			}
			ctx, done := p.interruptible(cmd.Context())
			defer done()
			return p.resolveProfiles(ctx, cmd.OutOrStdout(), profiles, name == "", p.absolute(out))
		},
	}
	finish(cmd, flags)
	if err := cmd.RegisterFlagCompletionFunc("profile", p.completeProfiles(&configPath)); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// chooseProfiles returns the named profile, or all without a name, sorted.
func chooseProfiles(cfg *config.Config, name string) ([]config.Profile, error) {
	if name != "" {
		one, err := profile(cfg, name)
		return []config.Profile{one}, err
	}
	var all []config.Profile
	for _, n := range cfg.ProfileNames() {
		all = append(all, cfg.Profiles[n])
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("`%s` defines no profile; add `[profiles.host]`", cfg.Path)
	}
	return all, nil
}

// resolveProfiles builds and shows what the profiles boot from. With out it is
// copied there too.
func (p *program) resolveProfiles(ctx context.Context, w io.Writer, profiles []config.Profile, several bool,
	out string) error {
	starter := proc.NewStarter()
	defer starter.Close()
	store, err := p.imageStore(starter)
	if err != nil {
		return err
	}
	builds := map[string]config.Profile{}
	for _, pr := range profiles {
		builds[pr.Name] = pr
	}
	if err := preparation.BuildProfiles(ctx, starter, builds, p.stderr, nil); err != nil {
		return err
	}
	for i, pr := range profiles {
		img, err := store.Resolve(ctx, run.ImageSpec(pr))
		if err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		if _, err := io.WriteString(w, listing.Image(img)); err != nil {
			return outputError(err)
		}
		if out == "" {
			continue
		}
		dir := out
		if several {
			dir = filepath.Join(out, pr.Name)
		}
		files, err := img.Export(dir)
		if err != nil {
			return err
		}
		for _, f := range files {
			fmt.Fprintf(w, "  wrote     %s\n", f)
		}
	}
	return nil
}

// outputError says that the output itself could not be written.
func outputError(err error) error {
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

func (p *program) imageListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is cached: kernels, their uncompressed forms, initrds, userlands",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := p.imageStore(nil)
			if err != nil {
				return err
			}
			entries, err := store.List()
			if err != nil {
				return err
			}
			return listing.Images(cmd.OutOrStdout(), entries)
		},
	}
	finish(cmd)
	return cmd
}

func (p *program) imageCleanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Empty the cache of images",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := p.imageStore(nil)
			if err != nil {
				return err
			}
			gone, err := store.Clean()
			if err != nil {
				return err
			}
			size := listing.Size(listing.Total(gone))
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed %d entries, %s\n", len(gone), size)
			return outputError(err)
		},
	}
	finish(cmd)
	return cmd
}

func (p *program) imageOverlayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "overlay PATH",
		Short: "Write the agent as an overlay (cpio.gz) for images of your own",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usage(cmd, "expected one path to write the overlay to")
			}
			store, err := p.imageStore(nil)
			if err != nil {
				return err
			}
			if err := writeWhole(p.absolute(args[0]), store.WriteOverlay); err != nil {
				return fmt.Errorf("image overlay: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s\n", args[0])
			return outputError(err)
		},
	}
	finish(cmd)
	return cmd
}

// writeWhole writes a file so that it is there whole or not at all. What is no
// regular file, such as a pipe, is written to directly.
func writeWhole(path string, write func(io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	err = errors.Join(write(tmp), tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}
