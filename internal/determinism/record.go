package determinism

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/syncpoint"
)

// maxDelay is how long a Recorder delays a guest at a point, to show that this makes no difference.
const maxDelay = 20 * time.Millisecond

// Check says where the points of a run's guests are written down. Its nil value writes nothing.
type Check struct {
	Dir string
	// Delays has guests be delayed at random.
	Delays bool
}

// New returns a Check that writes to a directory, nil for "".
func New(dir string) *Check {
	if dir == "" {
		return nil
	}
	return &Check{Dir: dir, Delays: true}
}

// Point is a line of the log of a guest.
type Point struct {
	Number   int    `json:"n"`
	Kind     string `json:"kind"`
	Op       string `json:"op,omitempty"` // what the host waited for
	Sent     string `json:"sent"`         // digests: to the guest, by it, and of its memory
	Received string `json:"received"`
	Printed  string `json:"printed"`
	Memory   string `json:"memory"`
}

// Recorder returns what writes down the points of one boot of a VM in a test file, nil of a nil Check. Boots of VMs of
// one name are counted.
func (c *Check) Recorder(file, vm string) func(ram *os.File, changed Changed, p syncpoint.Point) error {
	if c == nil {
		return nil
	}
	r := &recorder{check: c, name: url.PathEscape(file + " " + vm)}
	return r.record
}

// Changed visits the pages that a restored guest has changed of the file of its memory, in order. It is nil for a guest
// whose memory is all in the file.
type Changed = func(visit func(at int64, b []byte) error) error

type recorder struct {
	check *Check
	name  string

	mu  sync.Mutex
	log *os.File
	n   int
}

// record writes down a point at which something has reached the guest, or has come from it.
func (r *recorder) record(ram *os.File, changed Changed, p syncpoint.Point) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	if len(p.Sent)+len(p.Received) == 0 {
		return nil
	}
	if r.check.Delays {
		time.Sleep(rand.N(maxDelay))
	}
	if r.log == nil {
		f, err := create(r.check.Dir, r.name)
		if err != nil {
			return fmt.Errorf("log of sync points: %w", err)
		}
		r.log = f
	}
	memory, err := sum(ram, changed)
	if err != nil {
		return fmt.Errorf("memory of the guest: %w", err)
	}
	line, err := json.Marshal(Point{Number: r.n, Kind: string(rune(p.Kind)), Op: p.Op, Sent: digest(p.Sent),
		Received: digest(p.Received), Printed: p.Printed, Memory: memory})
	if err != nil {
		return err
	}
	_, err = r.log.Write(append(line, '\n'))
	return err
}

// create creates the log of the next boot of that name.
func create(dir, name string) (*os.File, error) {
	for n := 1; ; n++ {
		path := filepath.Join(dir, fmt.Sprintf("%s %d%s", name, n, logSuffix))
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if !os.IsExist(err) {
			return f, err
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// digest returns a short text of bytes. Two checksums of 32 bits find what chance has changed.
func digest(b []byte) string {
	return fmt.Sprintf("%08x%08x+%d", crc32.Checksum(b, castagnoli), crc32.ChecksumIEEE(b), len(b))
}

const pageSize = 4096

var empty [pageSize]byte

// digester makes the digest of pages.
type digester struct{ a, b uint32 }

func (d *digester) add(at int64, page []byte) {
	var number [8]byte
	for i := range number {
		number[i] = byte(at >> (8 * i))
	}
	d.a = crc32.Update(crc32.Update(d.a, castagnoli, number[:]), castagnoli, page)
	d.b = crc32.Update(crc32.Update(d.b, crc32.IEEETable, number[:]), crc32.IEEETable, page)
}

func (d *digester) String() string { return fmt.Sprintf("%08x%08x", d.a, d.b) }

// sum returns the digest of the pages of a guest's memory that are not empty, or of those that a
// restored guest has changed. Whether a page has only been looked at is a matter of the host.
func sum(f *os.File, changed Changed) (string, error) {
	var d digester
	if changed != nil {
		before := make([]byte, pageSize)
		err := changed(func(at int64, b []byte) error {
			for ; len(b) >= pageSize; at, b = at+pageSize, b[pageSize:] {
				if _, err := f.ReadAt(before, at); err != nil {
					return err
				}
				if !bytes.Equal(before, b[:pageSize]) {
					d.add(at, b[:pageSize])
				}
			}
			return nil
		})
		return d.String(), err
	}
	size, err := f.Seek(0, 2)
	if err != nil || size == 0 {
		return "", err
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Munmap(memory) }()
	for at := int64(0); at < size; {
		begin, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		if err != nil {
			return "", err
		}
		end, err := unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE)
		if err != nil {
			return "", err
		}
		for page := begin / pageSize * pageSize; page < end; page += pageSize {
			p := memory[page:min(page+pageSize, size)]
			if bytes.Equal(p, empty[:len(p)]) {
				continue
			}
			d.add(page, p)
		}
		at = end
	}
	return d.String(), nil
}
