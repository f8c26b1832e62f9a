//go:build bench

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"provium/internal/image/cache"
	"provium/internal/userland"
)

//go:embed image.lua
var imageScript string

const (
	imageBuildRounds = 5
	builtTree        = 400 << 20 // bytes
	readFile         = 64 << 20  // bytes, of image.lua
)

// userlandImage measures the images of userlands: how fast guests read files through one, and how long one takes to
// be made.
func (b *bench) userlandImage(ctx context.Context) error {
	return errors.Join(b.imageBuild(ctx), b.imageRead(ctx))
}

// imageBuild makes the index of a tree, and has mkfs.erofs make an image of it.
func (b *bench) imageBuild(ctx context.Context) error {
	mkfs, err := exec.LookPath("mkfs.erofs")
	if err != nil {
		return fmt.Errorf("%w (package erofs-utils)", err)
	}
	tree := filepath.Join(b.dir, "tree")
	n, err := linkTree("/usr/lib", tree, builtTree)
	if err != nil {
		return err
	}
	var ours, theirs sample
	for round := range imageBuildRounds {
		dir := filepath.Join(b.dir, fmt.Sprint("images", round))
		maker := userland.Maker{Cache: &cache.Cache{Dir: dir,
			Kinds: []string{userland.KindIndex, userland.KindArchive}}}
		begun := time.Now()
		if _, err := maker.Make(ctx, userland.Source{Kind: userland.Directory, Path: tree}); err != nil {
			return err
		}
		ours = append(ours, time.Since(begun))
		begun = time.Now()
		image := filepath.Join(b.dir, "image")
		if stdout, stderr, err := b.starter.Run(ctx, b.dir, nil, mkfs, image, tree); err != nil {
			return fmt.Errorf("%w\n%s%s", err, stdout, stderr)
		}
		theirs = append(theirs, time.Since(begun))
		if err := errors.Join(os.Remove(image), os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	b.table.atMost(fmt.Sprintf("image of a tree of %d files, 400 MiB / mkfs.erofs", n), ours, 1.5, theirs)
	return os.RemoveAll(tree)
}

// errEnough ends a walk.
var errEnough = errors.New("enough")

// linkTree makes a tree of so many bytes out of another one, by hard links where it can, and returns the number of
// its files.
func linkTree(from, to string, size int64) (n int, err error) {
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if size -= info.Size(); size < 0 {
			return errEnough
		}
		n++
		if err := os.Link(path, target); err == nil {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o644)
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return n, err
}

// imageRead has a guest read a file of its userland, and as much from a disk, neither of which is in its page cache.
func (b *bench) imageRead(ctx context.Context) error {
	p, err := b.project(map[string]string{"image.test.lua": imageScript})
	if err != nil {
		return err
	}
	config, err := os.OpenFile(filepath.Join(p.dir, "provium.toml"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = config.WriteString("\n[profiles.image]\nuserland = \"./tree\"\n" +
		"disks = [{path = \"file\", id = \"plain\", readonly = true}]\n")
	if err := errors.Join(err, config.Close()); err != nil {
		return err
	}
	content := make([]byte, readFile)
	for i := range content {
		content[i] = byte(i * (i >> 12))
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"file": content, "tree/data/file": content, "tree/bin/busybox": busybox} {
		path := filepath.Join(p.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o755)); err != nil {
			return err
		}
	}
	for _, name := range []string{"sh", "cat", "sync", "dd"} {
		if err := os.Symlink("busybox", filepath.Join(p.dir, "tree/bin", name)); err != nil {
			return err
		}
	}
	figures := filepath.Join(p.dir, "figures")
	if err := p.run(ctx, []string{"FIGURES=" + figures}, "--timeout", "0"); err != nil {
		return err
	}
	text, err := os.ReadFile(figures)
	if err != nil {
		return err
	}
	times := map[string]sample{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("figure %q: %w", line, err)
		}
		times[name] = append(times[name], time.Duration(n))
	}
	b.table.atLeast("64 MiB of a file of the userland / of a virtio-blk disk, into the page cache", readFile,
		times["file"], times["disk"], 0.7)
	return nil
}
