//go:build verify

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"provium/internal/snapshot"
)

// contents are the digests of what the image cache has, by path below it. The name of an
// entry there says what is in it.
type contents map[string][sha256.Size]byte

// named are the kinds of entries whose names fix their contents.
var named = []string{"initrd", "unpacked"}

// readImages reads the entries of the image cache that are complete by their names.
func (p *project) readImages() (contents, error) {
	c := contents{}
	root := filepath.Join(p.caches, "provium", "images")
	for _, kind := range named {
		err := filepath.WalkDir(filepath.Join(root, kind), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return ignoreMissing(err)
			}
			if strings.HasPrefix(d.Name(), ".") && d.IsDir() {
				return filepath.SkipDir // an entry that has no name yet
			}
			if !d.Type().IsRegular() {
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return ignoreMissing(err)
			}
			c[strings.TrimPrefix(path, root)] = sha256.Sum256(text)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// halfEntries returns what in the caches is not whole: snapshots that cannot be verified,
// records of fixtures without a snapshot, and entries of the image cache with other
// contents than good ones of the same names.
func (p *project) halfEntries(ctx context.Context, good contents) ([]string, error) {
	var half []string
	bad := func(format string, args ...any) { half = append(half, fmt.Sprintf(format, args...)) }
	now, err := p.readImages()
	if err != nil {
		return nil, err
	}
	for path, sum := range now {
		if want, known := good[path]; known && want != sum {
			bad("image cache: %s has other contents", path)
		}
	}
	root := filepath.Join(p.caches, "provium")
	for _, dir := range []string{"boots", "fixtures"} {
		records := filepath.Join(root, "fixtures") // those of labs are below
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			name := filepath.Base(path)
			switch {
			case err != nil:
				return ignoreMissing(err)
			case strings.HasPrefix(name, "."):
				if d.IsDir() {
					return filepath.SkipDir
				}
			case strings.HasSuffix(name, ".json") && filepath.Dir(path) == records:
				key := strings.TrimSuffix(path, ".json")
				_, snap := os.Stat(key + ".snap")
				_, lab := os.Stat(key + ".lab")
				if snap != nil && lab != nil {
					bad("fixture cache: %s has no snapshot", name)
				}
			case strings.HasSuffix(name, ".snap") && d.Type().IsRegular():
				r, err := snapshot.Open(path)
				if err == nil {
					err = r.Verify(ctx)
					r.Close()
				}
				if err != nil {
					bad("%s", err)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return half, ctx.Err()
}

// forget empties the caches of all that a run derives.
func (p *project) forget() error {
	for _, dir := range []string{"boots", "fixtures", "images/initrd", "images/unpacked"} {
		if err := os.RemoveAll(filepath.Join(p.caches, "provium", dir)); err != nil {
			return err
		}
	}
	return nil
}
