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

// Origin is a disk as far as it matters to a guest that boots. Its JSON is part of the
// names of entries of the boot cache.
type Origin struct {
	Device  qemu.Disk
	Size    int64
	Content string // digest of the image that it is made of; "" is a blank disk
}

// Origins are the disks of a machine that is about to boot. They hold the images
// that the disks are made of open, and must be closed.
type Origins struct {
	disks   []*Disk
	list    []Origin
	images  []*os.File // of each; nil is a blank disk
	changes int64      // of all disks by others than their guest, so far
}

// imageLimit is how much an image may take on the host, in bytes, for boots with it to
// be cached: to read more takes longer than to boot.
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
	o := &Origins{disks: s.All()}
	if len(o.disks) != len(devices) {
		return nil // a disk is being attached
	}
	for i, d := range o.disks {
		if !o.add(ctx, images, devices[i], d.contents()) {
			o.Close()
			return nil
		}
	}
	return o
}

// add describes one more disk, and reports whether that is possible.
func (o *Origins) add(ctx context.Context, images Images, device qemu.Disk, data *blockdev.Disk) bool {
	o.changes += data.Meddlings()
	origin, ok, err := data.Origin()
	if err != nil || !ok {
		return false
	}
	o.images = append(o.images, origin.Base)
	device.Socket = ""
	described := Origin{Device: device, Size: origin.Size}
	if origin.Base != nil {
		if info, err := origin.Base.Stat(); err != nil || info.Sys().(*syscall.Stat_t).Blocks*512 > imageLimit {
			return false
		}
		if described.Content, err = imageContent(ctx, images, origin.Base); err != nil {
			return false
		}
	}
	o.list = append(o.list, described)
	return true
}

func imageContent(ctx context.Context, images Images, f *os.File) (string, error) {
	return images.ContentDigest(ctx, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}

// List returns the descriptions, in the order of the devices.
func (o *Origins) List() []Origin { return o.list }

// Unchanged reports whether only the guest has changed the disks since they were
// described, and nobody the images that they are made of.
func (o *Origins) Unchanged(ctx context.Context, images Images) bool {
	now := int64(0)
	for _, d := range o.disks {
		now += d.contents().Meddlings()
	}
	if now != o.changes {
		return false
	}
	for i, f := range o.images {
		if f == nil {
			continue
		}
		if content, err := imageContent(ctx, images, f); err != nil || content != o.list[i].Content {
			return false
		}
	}
	return true
}

// Close closes the images.
func (o *Origins) Close() {
	for _, f := range o.images {
		if f != nil {
			_ = f.Close() // it was only read
		}
	}
}

// Apply writes to the disks what the guest of a post-boot snapshot has written.
func (s *Shelf) Apply(r *snapshot.Reader) error {
	all, err := readDisks(r)
	if all == nil || err != nil {
		return err
	}
	disks := s.All()
	if !all.Changes || all.Token != "" || len(all.Disks) != len(disks) {
		return damaged(r, errors.New("its disks are no others' changes"))
	}
	images, err := all.images(r)
	if err != nil {
		return err
	}
	for i, image := range images {
		if err == nil && all.Disks[i].Slot != disks[i].Slot() {
			err = damaged(r, fmt.Errorf("disk in slot %d", all.Disks[i].Slot))
		}
		if err == nil {
			err = disks[i].contents().Apply(image)
		}
	}
	return errors.Join(err, release(images))
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
