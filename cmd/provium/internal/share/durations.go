package share

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"

	"provium/internal/run"
	"provium/internal/shard"
	"provium/internal/sharedcache"
)

// durationsType is the media type of a durations file in a registry.
const durationsType = "application/vnd.provium.durations.v1+json"

// ReadDurations reads a durations file: one of this machine, or the one that a reference into a
// registry or an OCI layout names by its digest. Relative paths are of dir. Without a name there
// are no durations: nil.
func ReadDurations(ctx context.Context, name, dir string) (*shard.Durations, error) {
	if name == "" {
		return nil, nil
	}
	if !sharedcache.IsDocument(name) {
		return shard.ReadDurations(inDir(dir, name))
	}
	text, err := sharedcache.GetDocument(ctx, name, dir, durationsType, shard.MaxDurationsFile, 0)
	if err != nil {
		return nil, err
	}
	d, err := shard.ParseDurations(text)
	if err != nil {
		return nil, fmt.Errorf("`%s`: %w", name, err)
	}
	return d, nil
}

// SaveDurations writes a durations file, or stores it under the tag that a reference names, and
// says on out by which reference it is found again. Without a name it does nothing.
func SaveDurations(ctx context.Context, name, dir string, d *shard.Durations, out io.Writer) error {
	if name == "" {
		return nil
	}
	if !sharedcache.IsDocument(name) {
		return run.WriteWhole(inDir(dir, name), d.Write)
	}
	var text bytes.Buffer
	if err := d.Write(&text); err != nil {
		return err
	}
	ref, err := sharedcache.PutDocument(ctx, name, dir, durationsType, text.Bytes(), 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "provium: saved durations: --durations-file %s\n", ref)
	return err
}

func inDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
