package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func request(flags, kind uint16, cookie, off uint64, n uint32) []byte {
	return command{flags, kind, cookie, off, n}.append(nil)
}

// TestOldClient uses as little of the protocol as is allowed, and makes mistakes.
func TestOldClient(t *testing.T) {
	c, ended := serve(t, newMemory(1<<20), net.Pipe)
	read := func(n int) []byte {
		t.Helper()
		p := make([]byte, n)
		_, err := io.ReadFull(c, p)
		must(t, err)
		return p
	}
	write := func(p []byte) { t.Helper(); _, err := c.Write(p); must(t, err) }
	read(18)
	be := binary.BigEndian
	write(be.AppendUint32(nil, cFlagFixedNewstyle))
	write(option{kind: 99}.append(nil))
	if p := read(20); be.Uint32(p[12:]) != repErrUnsup {
		t.Errorf("unknown option: %x", p)
	}
	write(option{kind: optExportName}.append(nil))
	if p := read(8 + 2 + 124); be.Uint64(p) != 1<<20 {
		t.Errorf("size: %x", p)
	}
	for i, tc := range []struct {
		request []byte
		errno   uint32
	}{
		{request(0, cmdRead, 1, 0, 0), errnoInval},
		{request(0, cmdRead, 1, 1, 512), errnoInval},
		{request(0, cmdRead, 1, 1<<20, 512), errnoInval},
		{request(0, cmdRead, 1, 1<<64-512, 512), errnoInval},
		{request(cmdFlagDF, cmdRead, 1, 0, 512), errnoInval},
		{request(0, cmdBlockStatus, 1, 0, 512), errnoInval},
		{append(request(0, cmdWrite, 1, 1<<20, 512), blocks('x', 1)...), errnoNoSpace},
		{request(0, cmdZeroes, 1, 0, 1<<20+512), errnoNoSpace},
		{request(0, cmdFlush, 1, 512, 0), errnoInval},
		{request(0, 77, 1, 0, 512), errnoInval},
		{request(0, cmdTrim, 1, 0, 512), 0},
		{append(request(cmdFlagFUA, cmdWrite, 1, 0, 512), blocks('y', 1)...), 0},
	} {
		write(tc.request)
		if p := read(16); be.Uint32(p[4:]) != tc.errno || be.Uint64(p[8:]) != 1 {
			t.Errorf("request %d: %x, want errno %d", i, p, tc.errno)
		}
	}
	write(request(0, cmdRead, 2, 0, 512))
	if p := read(16 + 512); !bytes.Equal(p[16:], blocks('y', 1)) {
		t.Errorf("%x", p)
	}
	write(request(0, cmdDisc, 3, 0, 0))
	must(t, <-ended)

	c, ended = serve(t, newMemory(1<<20), net.Pipe)
	read(18)
	write(be.AppendUint32(nil, cFlagFixedNewstyle))
	write(bytes.Repeat([]byte{'x'}, 16))
	if err := <-ended; !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "no option magic") {
		t.Error(err)
	}
}

// TestRequests makes random requests by a Client, and compares with an array.
func TestRequests(t *testing.T) {
	const size = 1 << 20
	for name, disk := range map[string]Backend{"memory": newMemory(size), "direct": newDirect(t, size)} {
		rnd := rand.New(rand.NewPCG(1, 2))
		c := dial(t, disk)
		want := make([]byte, size)
		for step := range 300 {
			off := rnd.Int64N(size/BlockSize) * BlockSize
			n := 1 + rnd.Int64N((size-off)/BlockSize)
			n *= BlockSize
			switch rnd.IntN(3) {
			case 0:
				p := bytes.Repeat([]byte{byte(step)}, int(n))
				k, err := c.WriteAt(p, off)
				if err != nil || k != len(p) {
					t.Fatalf("%s: step %d: %d, %v", name, step, k, err)
				}
				copy(want[off:], p)
			case 1:
				must(t, c.Zero(off, n))
				clear(want[off : off+n])
			case 2:
				hole, k := c.Hole(off, n)
				if k < 1 || k > n || hole && bytes.ContainsFunc(want[off:off+k], func(r rune) bool { return r != 0 }) {
					t.Fatalf("%s: step %d: hole %v, %d of %d", name, step, hole, k, n)
				}
			}
			got := make([]byte, n)
			_, err := c.ReadAt(got, off)
			must(t, err)
			if !bytes.Equal(got, want[off:off+n]) {
				t.Fatalf("%s: step %d: the data differ", name, step)
			}
		}
		must(t, c.Flush())
		if d, ok := disk.(*direct); ok && (d.received == 0 || d.sent == 0) {
			t.Errorf("%d writes and %d reads went directly", d.received, d.sent)
		}
	}
}

// TestUnstorablePage receives data into memory that the kernel cannot store to.
func TestUnstorablePage(t *testing.T) {
	d := newDirect(t, 1<<20)
	d.fault = true
	c := dial(t, d)
	want := append(blocks('a', 100), blocks('b', 28)...)
	for range 2 {
		_, err := c.WriteAt(want, 4096)
		must(t, err)
	}
	got := make([]byte, len(want))
	_, err := c.ReadAt(got, 4096)
	must(t, err)
	if !bytes.Equal(got, want) || d.received != 2 {
		t.Errorf("the data differ, or %d writes went directly", d.received)
	}
}

// TestBackendErrors checks which error numbers reach the client, on all ways, and that
// the connection stays usable.
func TestBackendErrors(t *testing.T) {
	d := newDirect(t, 1<<20)
	for _, disk := range []Backend{d, d.memory} {
		c := dial(t, disk)
		for _, tc := range []struct{ err, want error }{
			{syscall.ENOMEDIUM, syscall.EIO}, {ErrReadOnly, syscall.EPERM},
			{fmt.Errorf("x: %w", syscall.ENOSPC), syscall.ENOSPC},
			{ErrClosed, syscall.ESHUTDOWN}, {nil, nil},
		} {
			d.mu.Lock()
			d.fail = tc.err
			d.mu.Unlock()
			for _, n := range []int64{512, 128 << 10} {
				p := make([]byte, n)
				if _, err := c.ReadAt(p, 0); err != tc.want {
					t.Errorf("read of %d: %v, want %v", n, err, tc.want)
				}
				if _, err := c.WriteAt(p, 0); err != tc.want {
					t.Errorf("write of %d: %v, want %v", n, err, tc.want)
				}
				if err := c.Zero(0, n); err != tc.want {
					t.Errorf("zero of %d: %v, want %v", n, err, tc.want)
				}
			}
			if err := c.Flush(); err != tc.want {
				t.Errorf("flush: %v, want %v", err, tc.want)
			}
		}
	}
}

func TestReadOnly(t *testing.T) {
	m := newMemory(1 << 20)
	m.readOnly = true
	c := dial(t, m)
	if _, err := c.WriteAt(make([]byte, 512), 0); err != syscall.EPERM {
		t.Error(err)
	}
	if err := c.Flush(); err != nil || m.flushes != 0 {
		t.Errorf("%v, %d flushes", err, m.flushes)
	}
}

// TestDelayedRequests has a backend that answers no request before as many as may be
// delayed at once are waiting.
func TestDelayedRequests(t *testing.T) {
	d := newDirect(t, 1<<20)
	var mu sync.Mutex
	waiting, full := 0, make(chan struct{})
	d.wait = func() {
		mu.Lock()
		all := full
		if waiting++; waiting == maxDelayed {
			waiting, full = 0, make(chan struct{})
			close(all)
		}
		mu.Unlock()
		<-all
	}
	conn, ended := serve(t, d, sockets(t))
	c, err := NewClient(conn)
	must(t, err)
	const requests = 2 * maxDelayed
	var all []byte
	for i := range uint64(requests) {
		all = append(all, request(0, cmdRead, i, 1024*i, 512)...)
	}
	_, err = conn.Write(all)
	must(t, err)
	seen := map[uint64]bool{}
	for range requests {
		p := make([]byte, 20+8+512)
		_, err := io.ReadFull(c.r, p)
		must(t, err)
		seen[binary.BigEndian.Uint64(p[8:])] = true
	}
	if len(seen) != requests {
		t.Errorf("%d different replies", len(seen))
	}
	must(t, c.Close())
	must(t, <-ended)
}

// TestBrokenOffWrite hangs up in the middle of the data of a write.
func TestBrokenOffWrite(t *testing.T) {
	d := newDirect(t, 1<<20)
	conn, ended := serve(t, d, sockets(t))
	_, err := NewClient(conn)
	must(t, err)
	_, err = conn.Write(append(request(0, cmdWrite, 1, 0, 64<<10), blocks('x', 10)...))
	must(t, err)
	must(t, conn.Close())
	must(t, <-ended)
	if d.received != 1 {
		t.Errorf("%d writes went directly", d.received)
	}
}

// TestServeEndsWithContext cancels the context of a server whose client is silent.
func TestServeEndsWithContext(t *testing.T) {
	client, server := sockets(t)()
	defer client.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, server, newMemory(1<<20)) }()
	_, err := NewClient(client)
	must(t, err)
	cancel()
	must(t, <-done)
}

// TestResume serves a client that has made the handshake elsewhere.
func TestResume(t *testing.T) {
	client, server := sockets(t)()
	disk := newMemory(8 * BlockSize)
	done := make(chan error, 1)
	go func() { done <- Resume(t.Context(), server, disk) }()
	c := &Client{conn: client, r: newReader(client), size: disk.Size(), terms: terms{structured: true, status: true}}
	if _, err := c.WriteAt(blocks('x', 1), BlockSize); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, BlockSize)
	if _, err := c.ReadAt(got, BlockSize); err != nil || !bytes.Equal(got, blocks('x', 1)) {
		t.Errorf("%q, %v", got, err)
	}
	must(t, c.Close())
	must(t, <-done)
}

// TestInOrder delays earlier requests longer than later ones, which are answered in their order all the same.
func TestInOrder(t *testing.T) {
	modes := map[string]terms{"": {}, InOrder: {inOrder: true}, AtRandom: {inOrder: true, atRandom: true}}
	for name, want := range modes {
		var conn bytes.Buffer
		s := &session{disk: newMemory(1 << 20), conn: &conn}
		begins, err := s.negotiate(option{kind: optGo, data: encodeGo(name)})
		if !begins || err != nil || s.terms != want {
			t.Errorf("%q: %t, %v, %+v", name, begins, err, s.terms)
		}
	}
	d := newMemory(1 << 20)
	const requests = 8
	left := requests
	d.wait = func() {
		d.mu.Lock()
		wait := left
		left--
		d.mu.Unlock()
		time.Sleep(time.Duration(wait) * time.Millisecond)
	}
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- serveClient(t.Context(), theirs, d, &terms{structured: true, inOrder: true, atRandom: true})
	}()
	var all []byte
	for i := range uint64(requests) {
		all = append(all, request(0, cmdRead, i, 1024*i, 512)...)
	}
	go ours.Write(all)
	for i := range uint64(requests) {
		p := make([]byte, 20+8+512)
		_, err := io.ReadFull(ours, p)
		must(t, err)
		if cookie := binary.BigEndian.Uint64(p[8:]); cookie != i {
			t.Fatalf("reply %d is that of request %d", i, cookie)
		}
	}
	must(t, ours.Close())
	must(t, <-ended)
}
