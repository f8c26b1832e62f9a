package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"provium/internal/blockdev"
	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// Origin is a disk as far as it makes a difference to a guest that boots.
type Origin struct {
	Device  qemu.Disk
	Size    int64
	Content string // digest of what it begins with; "" is nothing
}

// Origins are the disks of a machine that is about to boot. They hold the images
// that the disks are made of open, and must be closed.
type Origins struct {
	of        []*Disk
	disks     []Origin
	bases     []*os.File // of each; nil is a blank disk
	meddlings int64      // with all of them, so far
}

// imageLimit is how much an image may take on the host, in bytes, for boots with it to
// be cached: reading more takes longer than to boot.
const imageLimit = 2 << 30

// Images digests the contents of images.
type Images interface {
	// ContentDigest returns a digest of the file at path.
	ContentDigest(ctx context.Context, path string) (string, error)
}

// Origins describes the disks, whose devices are those of the machine. It returns nil
// if one of them may have what no other disk has: it was written to, it is an image
// that is used in place, or not raw, or has faults.
func (s *Shelf) Origins(ctx context.Context, images Images, devices []qemu.Disk) *Origins {
	b := &Origins{of: s.All()}
	if len(b.of) != len(devices) {
		return nil // somebody is giving the VM one
	}
	for i, d := range b.of {
		if !b.add(ctx, images, devices[i], d.contents()) {
			b.Close()
			return nil
		}
	}
	return b
}

// add describes one more disk, and reports whether that is possible.
func (b *Origins) add(ctx context.Context, images Images, device qemu.Disk, data *blockdev.Disk) bool {
	b.meddlings += data.Meddlings()
	origin, ok, err := data.Origin()
	if err != nil || !ok {
		return false
	}
	b.bases = append(b.bases, origin.Base)
	device.Socket = ""
	disk := Origin{Device: device, Size: origin.Size}
	if origin.Base != nil {
		if info, err := origin.Base.Stat(); err != nil || info.Sys().(*syscall.Stat_t).Blocks*512 > imageLimit {
			return false
		}
		if disk.Content, err = imageContent(ctx, images, origin.Base); err != nil {
			return false
		}
	}
	b.disks = append(b.disks, disk)
	return true
}

func imageContent(ctx context.Context, images Images, f *os.File) (string, error) {
	return images.ContentDigest(ctx, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}

// List returns the descriptions, in the order of the devices.
func (b *Origins) List() []Origin { return b.disks }

// Unchanged reports whether only the guest has changed the disks since they were
// described, and nobody the images that they are made of.
func (b *Origins) Unchanged(ctx context.Context, images Images) bool {
	now := int64(0)
	for _, d := range b.of {
		now += d.contents().Meddlings()
	}
	if now != b.meddlings {
		return false
	}
	for i, f := range b.bases {
		if f == nil {
			continue
		}
		if content, err := imageContent(ctx, images, f); err != nil || content != b.disks[i].Content {
			return false
		}
	}
	return true
}

// Close closes the images.
func (b *Origins) Close() {
	for _, f := range b.bases {
		if f != nil {
			_ = f.Close() // it was only read
		}
	}
}

// Apply writes to the disks what the guest of a post-boot snapshot has written.
func (s *Shelf) Apply(r *snapshot.Reader) (err error) {
	if _, ok := r.Manifest().Sections[sectionDisks]; !ok {
		return nil
	}
	all, err := readDisks(r)
	if err != nil {
		return err
	}
	disks := s.All()
	if !all.Changes || all.Token != "" || len(all.Disks) != len(disks) {
		return fmt.Errorf("snapshot `%s` is damaged: its disks are no others' changes", r.Path())
	}
	images, err := loadDisks(r, all)
	if err != nil {
		return err
	}
	for i, image := range images {
		if err == nil && all.Disks[i].Slot != disks[i].Slot() {
			err = fmt.Errorf("snapshot `%s` is damaged: disk in slot %d", r.Path(), all.Disks[i].Slot)
		}
		if err == nil {
			err = disks[i].contents().Apply(image)
		}
		err = errors.Join(err, image.Release())
	}
	return err
}

// Revert undoes what a guest that failed to start has written, and describes the
// disks to the next one, as Devices does.
func (s *Shelf) Revert(dir string) ([]qemu.Disk, error) {
	for _, d := range s.All() {
		d.mu.Lock()
		server := d.server
		d.server = nil
		d.mu.Unlock()
		if server != nil {
			server.close() // it may still have requests to read
		}
		if err := d.contents().Apply(nil); err != nil {
			return nil, fmt.Errorf("disk `%s`: %w", d.id, err)
		}
	}
	return s.Devices(dir)
}
