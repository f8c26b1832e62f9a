package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"provium/cmd/provium/internal/flagtext"
	"provium/cmd/provium/internal/hostcheck"
	"provium/cmd/provium/internal/share"
	"provium/internal/cachedir"
	"provium/internal/sharedcache"
	"provium/internal/tempdir"
)

// caches are the directories of the user's caches. Those that are not used by a verb are
// not looked at.
type caches struct {
	p      *program
	opener *cachedir.Opener
	// home is the user's cache directory, a temporary one if that cannot be trusted.
	home string
	lost bool // home does not outlive the program
}

// cacheHome returns the user's cache directory, "" where the user has none.
func (p *program) cacheHome() string {
	// The specification has relative ones ignored.
	if dir := p.getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Clean(dir)
	}
	if home := p.getenv("HOME"); home != "" {
		return filepath.Join(p.absolute(home), ".cache")
	}
	return ""
}

// cacheName is the directory of our caches in the user's cache directory.
const cacheName = "provium"

// caches returns the caches. What is to be known of them is noted at the first call.
func (p *program) caches() *caches {
	if p.opened != nil {
		return p.opened
	}
	c := &caches{p: p, home: p.cacheHome()}
	c.opener = &cachedir.Opener{Home: c.home, Temp: p.privateDir, Note: func(text string) {
		fmt.Fprintf(p.stderr, "provium: note: %s\n", text)
	}}
	if c.home == "" {
		c.opener.Note("neither HOME nor XDG_CACHE_HOME is set: the cache is in a temporary directory until the end")
	}
	if c.home == "" || !c.opener.Trust(filepath.Join(c.home, cacheName)) {
		c.lost = true
		dir, err := p.privateDir()
		if err != nil {
			dir = filepath.Join(p.tempBase(), "no-cache") // what needs it says that it is missing
		}
		c.home = dir
	}
	p.opened = c
	return c
}

// open returns the directory to use for a cache. See cachedir.Opener.
func (c *caches) open(name string, levels int) (string, error) {
	return c.opener.Open(filepath.Join(c.home, cacheName, name), levels)
}

// images returns the cache of images: a directory of kinds for each, with an entry in each.
func (c *caches) images() (string, error) { return c.open("images", 1) }

// boots returns the boot cache, a directory of files.
func (c *caches) boots() (string, error) { return c.open("boots", 0) }

// fixtures returns the cache of fixtures for the one that is configured: files, and
// directories of labs.
func (c *caches) fixtures(dir string) (string, error) { return c.opener.Open(dir, maxLabDepth) }

// maxLabDepth is how deep the directories of a lab's snapshot are searched.
const maxLabDepth = 64

// rerunState returns the file that remembers which files failed, "" if nothing does.
func (p *program) rerunState() string {
	if path := p.getenv("PROVIUM_RERUN_STATE"); path != "" {
		return p.absolute(path)
	}
	dir := filepath.Join(p.caches().home, cacheName)
	if p.caches().lost || cachedir.Inspect(dir, p.caches().home).ReadOnly != nil {
		return ""
	}
	return filepath.Join(dir, "rerun.json")
}

// history returns the file that remembers how long files took, beside the rerun state, "" if nothing does.
func (p *program) history() string {
	rerun := p.rerunState()
	if rerun == "" {
		return ""
	}
	return filepath.Join(filepath.Dir(rerun), "history.json")
}

// privateDir makes a directory that is removed at the end.
func (p *program) privateDir() (string, error) {
	if p.private == nil {
		t, err := tempdir.New(p.tempBase())
		if err != nil {
			return "", err
		}
		p.private = t
	}
	return os.MkdirTemp(p.private.Path(), "cache-")
}

// removePrivate removes what privateDir has made.
func (p *program) removePrivate() {
	if p.private != nil {
		p.private.Remove()
	}
	p.private, p.opened = nil, nil
}

const sharedHelp = `

REF is HOST/NAME[:TAG], a repository of any OCI registry, or oci:DIR, a directory. A tag
keeps a cache apart from others in the repository. Accounts are those of docker's
configuration.`

func (p *program) cacheCommand() *cobra.Command {
	push := &cobra.Command{
		Use:   "push REF [FLAGS]",
		Short: "Store booted guests, fixtures, kernels, initrds and userlands in a shared cache",
		Long:  "Stores what this user's caches have, and how long test files took. Nothing is sent twice." + sharedHelp,
	}
	pull := &cobra.Command{
		Use:   "pull REF [FLAGS]",
		Short: "Bring what a shared cache has and this machine can use",
		Long:  "Brings what a shared cache has, this machine can use, and its caches do not have." + sharedHelp,
	}
	ls := &cobra.Command{
		Use:   "ls REF [FLAGS]",
		Short: "List what a shared cache has",
		Long:  "Lists what a shared cache has: kind, size as it is sent, key, and what it is." + sharedHelp,
	}
	return commandGroup("cache", "Share booted guests, fixtures and images with other machines",
		p.withShared(push, (*share.Share).Push), p.withShared(pull, (*share.Share).Pull),
		p.withShared(ls, (*share.Share).List))
}

// withShared completes a command that has a shared cache as its argument.
func (p *program) withShared(cmd *cobra.Command,
	do func(*share.Share, context.Context, *sharedcache.Cache) error) *cobra.Command {
	var configPath, qemuPath string
	cmd.ValidArgsFunction = completeDirs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage(cmd, "expected one REF, as in `registry.example/team/cache` or `oci:DIR`, got %d arguments",
				len(args))
		}
		shared, err := sharedcache.Open(args[0], p.absolute("."), 0)
		if err != nil {
			return usage(cmd, "%w", err)
		}
		cfg, err := p.loadConfig(configPath, "", qemuPath)
		if err != nil {
			return err
		}
		ctx, done := p.interruptible(cmd.Context())
		defer done()
		sh, err := p.share(ctx, cfg.CacheDir, qemuPath)
		if err != nil {
			return err
		}
		return do(sh, ctx, shared)
	}
	project := newGroup("Project")
	project.config(&configPath)
	project.flags.Var(value(&qemuPath, "path", flagtext.Path), "qemu", "the QEMU of this machine is `PATH`")
	finish(cmd, project)
	return cmd
}

// share returns what moves entries of the caches of this user.
func (p *program) share(ctx context.Context, fixtures, qemuPath string) (*share.Share, error) {
	images, err := p.caches().images()
	if err != nil {
		return nil, err
	}
	boots, err := p.caches().boots()
	if err != nil {
		return nil, err
	}
	if fixtures, err = p.caches().fixtures(fixtures); err != nil {
		return nil, err
	}
	path, err := p.programs(nil).Look(cmp.Or(p.programPath(qemuPath), hostcheck.QEMUProgram))
	if err != nil {
		path = "" // its version is not compared
	}
	dirs := share.Dirs{Images: images, Boots: boots, Fixtures: fixtures, History: p.history()}
	return share.New(ctx, dirs, path, p.stdout, p.stderr), nil
}
