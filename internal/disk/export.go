package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"provium/internal/blockdev"
)

// Grow makes the contents longer, by zeroes. It reports whether their size has
// changed, so that the machine has to be told.
func (d *Disk) Grow(size int64) (grown bool, err error) {
	data, err := d.backend()
	if err != nil {
		return false, err
	}
	spec := d.Spec()
	if logical, _ := spec.Blocks(); size%int64(logical) != 0 {
		return false, fmt.Errorf("size %d is no multiple of the disk's logical block size %d", size, logical)
	}
	if size > MaxSize {
		return false, fmt.Errorf("size %d is more than %d bytes", size, int64(MaxSize))
	}
	if size == data.Size() {
		return false, nil
	}
	return true, data.Resize(size)
}

// Export writes what is on the medium, or with pending what the guest sees, to a raw
// file with holes. The file appears when it is complete, and replaces an older one.
func (d *Disk) Export(ctx context.Context, path string, pending bool) (err error) {
	data, err := d.backend()
	if err != nil {
		return err
	}
	spec := d.Spec()
	if own := spec.Path + spec.Template; own != "" {
		a, errA := os.Stat(own)
		b, errB := os.Stat(path)
		if errA == nil && errB == nil && os.SameFile(a, b) {
			return fmt.Errorf("`%s` is what the disk is made of", path)
		}
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("`%s` is there and no regular file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".export-*")
	if err != nil {
		return fmt.Errorf("`%s`: %w", path, errors.Unwrap(err))
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err == nil {
			err = os.Rename(f.Name(), path)
		}
		if err != nil {
			_ = os.Remove(f.Name()) // it may be gone
			err = fmt.Errorf("`%s`: %w", path, err)
		}
	}()
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	return exportTo(ctx, f, data, pending)
}

// exportTo writes the contents that a disk has now.
func exportTo(ctx context.Context, f *os.File, data *blockdev.Disk, pending bool) error {
	image, err := data.Seal()
	if err != nil {
		return err
	}
	err = f.Truncate(image.Size())
	buf := make([]byte, 1<<20)
	for off := int64(0); err == nil && off < image.Size(); {
		if err = context.Cause(ctx); err != nil {
			break
		}
		hole, n := image.Hole(off, image.Size()-off, pending)
		if !hole {
			n = min(n, int64(len(buf)))
			if err = image.ReadAt(buf[:n], off, pending); err == nil {
				_, err = io.NewOffsetWriter(f, off).Write(buf[:n])
			}
		}
		off += n
	}
	return errors.Join(err, image.Release())
}
