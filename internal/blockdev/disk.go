package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"provium/internal/blockdev/fault"
	"provium/internal/nbd"
)

// Contents are what a disk begins with that is no file. They do not change.
type Contents interface {
	io.ReaderAt
	io.Closer
	Size() int64 // in bytes
	// File is a file that describes the contents: one with the same bytes describes the
	// same.
	File() *os.File
}

// Config is what a Disk is made of: exactly one of Image, Template, Contents, Size and From.
type Config struct {
	Image    string // file, used in place
	Template string // file of which the disk is a private copy
	// Server is a connection to an NBD server whose default export has the contents
	// of Image or Template, which is not raw then. Open owns it.
	Server   net.Conn
	Contents Contents // of which the disk is a private copy, and which Open owns
	Size     int64    // of a blank disk in bytes, a multiple of SectorSize
	From     *Image   // snapshot of a disk; this one is a private copy, without faults until Arm
	ReadOnly bool     // writes fail
	TempDir  string   // for temporary files; "" is the system's
	// OnError is called with an error of the host that let a request fail. It must
	// not block. Nil ignores errors.
	OnError func(error)
}

// Disk is the contents of one disk behind a volatile write cache. What the guest
// writes is in the cache until it flushes. It is safe for concurrent use.
type Disk struct {
	cfg    Config
	size   atomic.Int64 // capacity in bytes, whole sectors
	faults fault.Faults

	mu        sync.RWMutex
	medium    store
	cache     *layer // what was written and not flushed
	spent     int64  // bytes written to the cache's file since it was last emptied
	flushing  flushing
	postponed bool // see HoldFlushes
	off       bool // without power, see Cut.Off
	closed    bool
	unflushed unflushed
	recording *Recording // nil while there is none
	derived   bool       // made from an Image

	meddlings   atomic.Int64           // see Meddlings
	beforeFlush atomic.Pointer[func()] // see BeforeFlush

	telling sync.Mutex
	told    map[string]bool // errors that were reported

	epoch atomic.Int64 // see Resize
	valid atomic.Int64 // the first epoch whose sessions' flushes count
}

// flushing is what a flush of the guest does.
type flushing uint8

const (
	commits  flushing = iota // it writes the cache to the medium
	waits                    // it does so later, see HoldFlushes
	pretends                 // it does nothing, see IgnoreFlushes
)

// Open makes a disk. The caller must close it.
func Open(cfg Config) (*Disk, error) {
	d := &Disk{cfg: cfg}
	if cfg.From != nil {
		d.become(cfg.From)
		d.cfg.From = nil // it is the caller's
		return d, nil
	}
	var err error
	var size int64
	if d.medium, size, err = openMedium(&cfg); err != nil {
		return nil, err
	}
	d.size.Store(size)
	d.cache = &layer{dir: cfg.TempDir, size: size}
	return d, nil
}

func openMedium(cfg *Config) (store, int64, error) {
	switch {
	case cfg.Contents != nil:
		i := &described{contents: cfg.Contents}
		i.refs.Store(1)
		size := wholeSectors(cfg.Contents.Size())
		return &stack{&layer{dir: cfg.TempDir, size: size}, i}, size, nil
	case cfg.Image != "" || cfg.Template != "":
		path, write := cfg.Image, !cfg.ReadOnly
		if path == "" {
			path, write = cfg.Template, false
		}
		f, err := openImage(path, write, cfg.Server)
		if err != nil {
			return nil, 0, err
		}
		size := wholeSectors(f.length.Load())
		if write {
			return &inPlace{imageFile: f, dir: cfg.TempDir}, size, nil
		}
		return &stack{&layer{dir: cfg.TempDir, size: size}, f}, size, nil
	case cfg.Size <= 0 || cfg.Size%SectorSize != 0:
		return nil, 0, fmt.Errorf("size: %d is not a positive multiple of %d", cfg.Size, SectorSize)
	}
	// The size may be more than a file can have, which is an error now.
	f, err := temporary(cfg.TempDir, cfg.Size)
	if err != nil {
		return nil, 0, fmt.Errorf("scratch disk of %d bytes: %w", cfg.Size, err)
	}
	own := &layer{dir: cfg.TempDir, size: cfg.Size, files: []*blob{newBlob(f)}, own: firstFile}
	return &stack{own, nil}, cfg.Size, nil
}

func wholeSectors(n int64) int64 { return (n + SectorSize - 1) / SectorSize * SectorSize }

// Size returns the capacity in bytes.
func (d *Disk) Size() int64 { return d.size.Load() }

// FileSize returns the present length of an image that is used in place, else the
// capacity, in bytes.
func (d *Disk) FileSize() int64 {
	if d.cfg.Image != "" && d.cfg.Server == nil {
		if info, err := os.Stat(d.cfg.Image); err == nil {
			return info.Size()
		}
	}
	return d.size.Load()
}

// ReadOnly reports whether writes fail.
func (d *Disk) ReadOnly() bool { return d.cfg.ReadOnly }

// Close closes the files. What was not flushed is lost.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.stopRecording("the disk was closed")
	return errors.Join(d.medium.close(), d.cache.close(), d.unflushed.close())
}

// ErrClosed is returned for requests after Close.
var ErrClosed = nbd.ErrClosed

// errPowerCut is returned for all requests while the disk has no power, see Cut.Off.
var errPowerCut = errors.New("EIO (power_cut)")

// errReadOnly is returned for writes to a read-only disk.
var errReadOnly = nbd.ErrReadOnly

// ReadSectors returns n sectors from sector first on, as they are on the medium, or
// with pending as the guest sees them.
func (d *Disk) ReadSectors(ctx context.Context, first, n int64, pending bool) ([]byte, error) {
	if err := d.inRange(first, n); err != nil {
		return nil, err
	}
	p := make([]byte, n*SectorSize)
	return p, d.readInto(ctx, p, first*SectorSize, pending)
}

// readInto fills p as ReadSectors does.
func (d *Disk) readInto(ctx context.Context, p []byte, off int64, pending bool) error {
	return d.faults.Run(ctx, fault.Request{Op: fault.Read, Off: off, N: int64(len(p))}, func(fault.Deed) error {
		d.mu.RLock()
		defer d.mu.RUnlock()
		switch err := d.powered(); {
		case err != nil:
			return err
		case pending:
			return d.cache.read(p, off, d.medium.readAt)
		}
		return d.medium.readAt(p, off)
	})
}

// WriteSectors writes p, of any length, from sector first on to the medium. The
// guest sees it at once, also where it has written and not flushed.
func (d *Disk) WriteSectors(ctx context.Context, first int64, p []byte) error {
	if err := d.inRange(first, (int64(len(p))+SectorSize-1)/SectorSize); err != nil {
		return err
	}
	off := first * SectorSize
	return d.faults.Run(ctx, fault.Request{Op: fault.Write, Off: off, N: int64(len(p))}, func(fault.Deed) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		switch err := d.powered(); {
		case err != nil:
			return err
		case d.cfg.ReadOnly:
			return errReadOnly
		}
		d.meddlings.Add(1)
		if err := d.noteSectors(first, p); err != nil {
			return err
		}
		whole := int64(len(p)) / SectorSize * SectorSize
		if tail := p[whole:]; len(tail) > 0 {
			// In the cache, too, the rest of the sector stays.
			if h, _ := d.cache.table.run((off+whole)/SectorSize, 1); h != absent {
				var sector [SectorSize]byte
				if err := d.cache.read(sector[:], off+whole, d.medium.readAt); err != nil {
					return err
				}
				copy(sector[:], tail)
				if err := d.cache.write(sector[:], off+whole); err != nil {
					return err
				}
			}
		}
		if err := d.medium.writeAt(p, off); err != nil {
			return err
		}
		if whole > 0 {
			d.cache.forget(first, whole/SectorSize)
		}
		return d.medium.flush()
	})
}

// inRange returns an error unless n sectors from sector first on are on the disk.
func (d *Disk) inRange(first, n int64) error {
	return fault.Range{First: first, Count: n}.Check(d.size.Load())
}

// PowerOn returns the power to a disk that a power cut left without: requests succeed
// again.
func (d *Disk) PowerOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = false
}

// IsOff reports whether a power cut has left the disk without power.
func (d *Disk) IsOff() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.off
}

// powered returns an error for a disk that is closed or has no power. The caller must
// hold d.mu.
func (d *Disk) powered() error {
	switch {
	case d.closed:
		return ErrClosed
	case d.off:
		return errPowerCut
	}
	return nil
}

// BeforeFlush has f called before each flush, without a lock: it may call HoldFlushes.
func (d *Disk) BeforeFlush(f func()) { d.beforeFlush.Store(&f) }

// HoldFlushes must be called before the emulator is told to stop the machine. The
// emulator flushes once more then, after everything that the guest did, and that flush
// must not count: a guest that is paused has flushed nothing. So flushes succeed at
// once, and take effect when another request follows.
func (d *Disk) HoldFlushes() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flushing == commits {
		d.flushing = waits
		d.faults.ExpectFlush()
	}
}

// IgnoreFlushes must be called when the machine has stopped. The last flush is
// forgotten, and later ones have no effect.
func (d *Disk) IgnoreFlushes() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.ForgetFlush(d.postponed)
	d.flushing, d.postponed = pretends, false
}

// ObeyFlushes must be called before the machine resumes.
func (d *Disk) ObeyFlushes() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushing = commits
	return d.catchUp()
}

// catchUp carries out a postponed flush. The caller must hold d.mu.
func (d *Disk) catchUp() error {
	if !d.postponed {
		return nil
	}
	d.postponed = false
	return d.commit()
}

// Flush writes the cache to the medium, whatever the guest says.
func (d *Disk) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.cfg.ReadOnly {
		return nil
	}
	return d.commit()
}

// guestRead reads what the guest sees. Like all requests of guests it takes a range of
// whole sectors within the disk.
func (d *Disk) guestRead(ctx context.Context, p []byte, off int64) error {
	return d.faults.Run(ctx, fault.Request{Op: fault.Read, Off: off, N: int64(len(p)), Guest: true},
		func(e fault.Deed) error {
			d.mu.RLock()
			defer d.mu.RUnlock()
			if err := d.powered(); err != nil {
				return err
			}
			return d.read(e, p, off)
		})
}

// read reads what the guest sees, with the deed of a fault. The caller must hold d.mu.
func (d *Disk) read(e fault.Deed, p []byte, off int64) error {
	from := off
	if e.Effect == fault.Misdirect {
		from = e.Elsewhere(off, int64(len(p)), d.size.Load())
	}
	err := d.report(d.cache.read(p, from, d.medium.readAt))
	if err == nil && e.Effect == fault.Corrupt {
		e.Corrupt(p)
	}
	return err
}

// change carries out a request of the guest that changes the disk.
func (d *Disk) change(ctx context.Context, r fault.Request, fua bool,
	do func(e fault.Deed, r fault.Request) error) error {
	return d.faults.Run(ctx, r, func(e fault.Deed) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		err := d.powered()
		switch {
		case err != nil:
			return err
		case d.cfg.ReadOnly:
			return errReadOnly
		}
		err = d.catchUp()
		switch {
		case err != nil || e.Effect == fault.Lose:
			return d.report(err)
		case e.Effect == fault.Torn:
			r.N = e.Part(r.N)
		case e.Effect == fault.Misdirect:
			r.Off = e.Elsewhere(r.Off, r.N, d.size.Load())
		}
		if r.N > 0 {
			err = do(e, r)
		}
		if err == nil && fua {
			if err = d.cache.each(r.Off, r.N, d.settle); err == nil {
				err = d.medium.flush()
			}
		}
		return d.report(err)
	})
}

// guestWrite writes p to the cache, and with fua to the medium.
func (d *Disk) guestWrite(ctx context.Context, p []byte, off int64, fua bool) error {
	fua = fua && !d.faults.LosesFUA()
	return d.change(ctx, fault.Request{Op: fault.Write, Off: off, N: int64(len(p)), Guest: true}, fua,
		func(e fault.Deed, r fault.Request) error {
			return d.put(p[:r.N], e, r.Off, fua)
		})
}

// put writes p to the cache. The caller must hold d.mu.
func (d *Disk) put(p []byte, e fault.Deed, off int64, fua bool) error {
	if e.Effect == fault.Corrupt {
		p = corrupted(e, p)
	}
	d.spent += int64(len(p))
	if err := d.note(off, int64(len(p)), p, fua); err != nil {
		return err
	}
	return d.cache.write(p, off)
}

// guestZero writes zeroes to the cache, and with fua to the medium.
func (d *Disk) guestZero(ctx context.Context, off, n int64, fua bool) error {
	fua = fua && !d.faults.LosesFUA()
	return d.change(ctx, fault.Request{Op: fault.Discard, Off: off, N: n, Guest: true}, fua,
		func(_ fault.Deed, r fault.Request) error {
			if err := d.note(r.Off, r.N, nil, fua); err != nil {
				return err
			}
			d.cache.table.set(r.Off/SectorSize, r.N/SectorSize, zeroed)
			return nil
		})
}

// guestFlush writes the cache to the medium, see HoldFlushes and IgnoreFlushes.
func (d *Disk) guestFlush(ctx context.Context) error {
	if f := d.beforeFlush.Load(); f != nil {
		(*f)()
	}
	d.mu.RLock()
	stopped := d.flushing == pretends
	d.mu.RUnlock()
	if stopped {
		return nil // not the guest's: it meets neither faults nor a power cut
	}
	return d.faults.Run(ctx, fault.Request{Op: fault.Flush, Guest: true}, func(e fault.Deed) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		switch {
		case d.closed:
			return ErrClosed
		case d.cfg.ReadOnly || d.flushing == pretends:
			return nil
		case d.off:
			return errPowerCut
		}
		err := d.catchUp()
		if e.Effect == fault.Lose {
			return d.report(err)
		}
		if d.flushing == waits {
			d.postponed = true
			return d.report(err)
		}
		return d.report(errors.Join(err, d.commit()))
	})
}

// hole is store.hole for what the guest sees.
func (d *Disk) hole(off, limit int64) (bool, int64) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return false, limit
	}
	p, n := d.cache.table.run(off/SectorSize, limit/SectorSize)
	if p == absent {
		return d.medium.hole(off, n*SectorSize)
	}
	return p == zeroed, n * SectorSize
}

// report passes an error of the host to OnError, the same text once. The guest only
// sees EIO.
func (d *Disk) report(err error) error {
	if err == nil || d.cfg.OnError == nil || errors.Is(err, ErrClosed) || errors.Is(err, errReadOnly) ||
		errors.Is(err, nbd.ErrGone) {
		return err
	}
	d.telling.Lock()
	defer d.telling.Unlock()
	text := err.Error()
	if d.told[text] || len(d.told) >= maxTold {
		return err
	}
	if d.told == nil {
		d.told = map[string]bool{}
	}
	d.told[text] = true
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("the host has no space left for what the guest writes: %w", err)
	}
	d.cfg.OnError(err)
	return err
}

// maxTold limits the different errors that are reported.
const maxTold = 32

// commit writes the cache to the medium. The caller must hold d.mu.
func (d *Disk) commit() error {
	if d.cache.table.empty() {
		return nil
	}
	err := d.cache.table.held(d.size.Load()/SectorSize, func(first, n int64, p place) error {
		return d.settle(p, first*SectorSize, n*SectorSize)
	})
	if err == nil {
		err = d.medium.flush()
	}
	if err == nil {
		d.emptyCache()
		d.unflushed.forget()
		if d.recording != nil {
			d.recording.flush()
		}
	}
	return err
}

// settle moves one range of the cache to the medium.
func (d *Disk) settle(p place, off, n int64) error {
	if p == absent {
		return nil
	}
	if err := d.settled(p, off, n); err != nil {
		return err
	}
	d.cache.forget(off/SectorSize, n/SectorSize)
	return nil
}

// cacheKept is the size that the cache's file may have while the cache is empty, in
// bytes.
const cacheKept = 64 << 20

// emptyCache drops the contents of the cache, and frees its file if that is large. The caller must hold d.mu.
func (d *Disk) emptyCache() {
	spare := d.spent >= cacheKept
	if spare {
		d.spent = 0
	}
	d.cache.clear(spare)
}
