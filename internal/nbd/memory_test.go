package nbd

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// memory is a Backend that keeps its contents in memory.
type memory struct {
	size     int64
	readOnly bool
	wait     func() // delays a request; nil if none is

	mu      sync.Mutex
	data    []byte
	fail    error // of reads and writes
	flushes int
	fua     int // writes with fua
}

func newMemory(size int64) *memory { return &memory{size: size, data: make([]byte, size)} }

func (m *memory) Size() int64    { return m.size }
func (m *memory) ReadOnly() bool { return m.readOnly }
func (m *memory) Delays() bool   { return m.wait != nil }

// run does a request under the lock, after the wait.
func (m *memory) run(do func()) error {
	if m.wait != nil {
		m.wait()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		do()
	}
	return m.fail
}

func (m *memory) Read(_ context.Context, p []byte, off int64) error {
	return m.run(func() { copy(p, m.data[off:off+int64(len(p))]) })
}

func (m *memory) Write(_ context.Context, p []byte, off int64, fua bool) error {
	return m.run(func() {
		copy(m.data[off:off+int64(len(p))], p)
		if fua {
			m.fua++
		}
	})
}

func (m *memory) Zero(_ context.Context, off, n int64, _ bool) error {
	return m.run(func() { clear(m.data[off : off+n]) })
}

func (m *memory) Flush(context.Context) error { return m.run(func() { m.flushes++ }) }

// Hole finds the run of blocks that are zeroes, or are not.
func (m *memory) Hole(off, limit int64) (bool, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	zero := func(at int64) bool {
		return !slices.ContainsFunc(m.data[at:at+BlockSize], func(b byte) bool { return b != 0 })
	}
	hole, n := zero(off), int64(BlockSize)
	for n < limit && zero(off+n) == hole {
		n += BlockSize
	}
	return hole, n
}

// direct is a memory whose contents are a mapped file.
type direct struct {
	*memory
	file     *os.File
	received int // writes that came through Receive
	sent     int // reads that went through Extents
	fault    bool
}

func newDirect(t *testing.T, size int64) *direct {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	must(t, err)
	must(t, f.Truncate(size))
	mem, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	t.Cleanup(func() {
		_ = unix.Munmap(mem)
		f.Close()
	})
	return &direct{memory: &memory{size: size, data: mem}, file: f}
}

func (d *direct) Takes(_, n int64) bool { return n >= 8<<10 }

func (d *direct) Receive(_ context.Context, in *Incoming, off, n int64, _ bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.received++
	switch {
	case d.fail != nil:
		return d.fail
	case d.fault: // the second half cannot be stored to where it belongs
		wall, err := unix.Mmap(-1, 0, 8<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Munmap(wall) }()
		if err := unix.Mprotect(wall[4<<10:], unix.PROT_READ); err != nil {
			return err
		}
		k, err := in.Receive(wall)
		if err != unix.EFAULT || k > 4<<10 {
			return err
		}
		copy(d.data[off:], wall[:k])
		off, n = off+int64(k), int64(in.Left())
	}
	_, err := in.Receive(d.data[off : off+n])
	return err
}

func (d *direct) Extents(ctx context.Context, off, n int64) (Extents, []byte, error) {
	d.mu.Lock()
	d.sent++
	fail := d.fail
	d.mu.Unlock()
	if fail != nil {
		return nil, nil, fail
	}
	var x Extents
	for end := off + n; off < end; {
		hole, k := d.Hole(off, end-off)
		e := Extent{Len: k}
		if !hole {
			e.File, e.At = d.file, off
		}
		if x = append(x, e); len(x) > 8 {
			p := make([]byte, n)
			return nil, p, d.Read(ctx, p, end-n)
		}
		off += k
	}
	return x, nil, nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func blocks(c byte, n int) []byte { return bytes.Repeat([]byte{c}, n*BlockSize) }

// serve serves disk on one connection, and returns the client's end.
func serve(t *testing.T, disk Backend, conns func() (client, server net.Conn)) (net.Conn, <-chan error) {
	t.Helper()
	client, server := conns()
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	done := make(chan error, 1)
	serving.Go(func() { done <- Serve(ctx, server, disk) })
	t.Cleanup(func() {
		client.Close()
		cancel()
		serving.Wait()
	})
	return client, done
}

// sockets returns a pair of unix sockets.
func sockets(t *testing.T) func() (client, server net.Conn) {
	return func() (client, server net.Conn) {
		t.Helper()
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		conn := func(fd int) net.Conn {
			f := os.NewFile(uintptr(fd), "socket")
			defer f.Close()
			c, err := net.FileConn(f)
			must(t, err)
			return c
		}
		return conn(fds[0]), conn(fds[1])
	}
}

// dial makes a Client of disk over a pair of sockets.
func dial(t *testing.T, disk Backend) *Client {
	t.Helper()
	conn, _ := serve(t, disk, sockets(t))
	c, err := NewClient(conn)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}
