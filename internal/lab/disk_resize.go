package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"provium/internal/blockdev"
	"provium/internal/qemu"
)

// Resize makes the disk longer, by zeroes. A guest that runs is told; what it had not
// flushed stays like that.
func (d *Disk) Resize(ctx context.Context, size int64) error {
	v := d.vm
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	data, err := d.backend()
	if err != nil {
		return err
	}
	logical, _ := d.spec.Blocks()
	if size%int64(logical) != 0 {
		return fmt.Errorf("size %d is no multiple of the disk's logical block size %d", size, logical)
	}
	if size > MaxDiskSize {
		return fmt.Errorf("size %d is more than %d bytes", size, int64(MaxDiskSize))
	}
	if size == data.Size() {
		return nil
	}
	if err := data.Resize(size); err != nil {
		return err
	}
	v.mu.Lock()
	inst := v.inst
	v.mu.Unlock()
	d.mu.Lock()
	device := qemu.Disk{Slot: d.slot, Node: d.node, ReadOnly: d.spec.ReadOnly}
	if d.server != nil {
		device.Socket = d.server.socket
	}
	d.mu.Unlock()
	if inst == nil || device.Slot == 0 {
		return nil // the next machine asks for the size
	}
	return inst.machine.ResizeDisk(ctx, device, size, func() {
		data.Retire()
		d.mu.Lock()
		d.node++
		d.mu.Unlock()
	})
}

// Export writes what the disk has on its medium, or with pending what the guest sees,
// to a raw file with holes. The file is there when it is complete; one that was there
// is replaced.
func (d *Disk) Export(ctx context.Context, path string, pending bool) (err error) {
	data, err := d.backend()
	if err != nil {
		return err
	}
	if own := d.spec.Path + d.spec.Template; own != "" {
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
