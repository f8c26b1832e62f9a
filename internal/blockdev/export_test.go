package blockdev

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"provium/internal/blockdev/fault"
	"provium/internal/nbd"
)

// listen serves d on a unix socket and returns its path.
func listen(t *testing.T, d *Disk) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Add(1)
	go func() {
		defer served.Done()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			served.Add(1)
			go func() {
				defer served.Done()
				if err := d.Serve(ctx, conn); err != nil {
					t.Errorf("serve: %v", err)
				}
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		cancel()
		served.Wait()
	})
	return path
}

// tool runs a foreign client, and is what it printed.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: run `make setup`", name)
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// peer is a client of a disk, with its connection.
type peer struct {
	*nbd.Client
	conn net.Conn
}

// dial makes a client of a disk.
func dial(t *testing.T, d *Disk) *peer {
	t.Helper()
	conn, err := net.Dial("unix", listen(t, d))
	must(t, err)
	c, err := nbd.NewClient(conn)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return &peer{c, conn}
}

// fua is the flag of a write that must be permanent.
const fua = 1

// beginWrite sends the header of a write of n bytes, and p.
func (c *peer) beginWrite(t *testing.T, flags uint16, off, n int64, p []byte) {
	t.Helper()
	be := binary.BigEndian
	head := be.AppendUint16(be.AppendUint32(nil, 0x25609513), flags)
	head = be.AppendUint64(be.AppendUint16(head, 1), 1<<40) // WRITE, cookie
	head = be.AppendUint32(be.AppendUint64(head, uint64(off)), uint32(n))
	_, err := c.conn.Write(append(head, p...))
	must(t, err)
}

// writeFUA writes p so that it is permanent, which a Client never asks for.
func (c *peer) writeFUA(t *testing.T, p []byte, off int64) {
	t.Helper()
	c.beginWrite(t, fua, off, int64(len(p)), p)
	var reply [16]byte
	_, err := io.ReadFull(c.conn, reply[:])
	must(t, err)
	if errno := binary.BigEndian.Uint32(reply[4:]); errno != 0 {
		t.Fatalf("FUA write: error %d", errno)
	}
}

func TestLibnbd(t *testing.T) {
	content := make([]byte, 3<<20)
	for i := range content {
		content[i] = byte(i >> 9)
	}
	clear(content[1<<20 : 2<<20])
	path := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(path, content, 0o600))
	d := open(t, Config{Size: 3 << 20})
	url := "nbd+unix:///?socket=" + listen(t, d)
	tool(t, "nbdcopy", "--flush", path, url)
	if p := everything(t, d, false); !bytes.Equal(p, content) {
		t.Error("what was copied in differs")
	}
	back := filepath.Join(t.TempDir(), "back")
	tool(t, "nbdcopy", url, back)
	if p, err := os.ReadFile(back); err != nil || !bytes.Equal(p, content) {
		t.Errorf("what was copied out differs: %v", err)
	}
	info := tool(t, "nbdinfo", url)
	for _, want := range []string{"newstyle-fixed", "using structured packets", "export-size: 3145728",
		"base:allocation", "can_flush: true",
		"can_fua: true", "can_trim: true", "can_zero: true", "block_size_minimum: 512"} {
		if !strings.Contains(info, want) {
			t.Errorf("nbdinfo has no %q:\n%s", want, info)
		}
	}
	if m := strings.Fields(tool(t, "nbdinfo", "--map", url)); strings.Join(m,
		" ") != "0 1048576 0 data 1048576 1048576 3 hole,zero 2097152 1048576 0 data" {
		t.Errorf("map: %q", m)
	}
}

// TestClient has our client use our server.
func TestClient(t *testing.T) {
	far := open(t, Config{Size: 16 << 20})
	dial := func() net.Conn {
		conn, err := net.Dial("unix", listen(t, far))
		must(t, err)
		return conn
	}
	file := image(t, 'x', SectorSize) // what it holds is behind the connection
	ctx := context.Background()
	d := open(t, Config{Image: file, Server: dial()})
	if d.Size() != 16<<20 {
		t.Fatalf("%d bytes", d.Size())
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 6<<20/16)
	must(t, d.guestWrite(ctx, big, 1<<20, false))
	if sector(t, far, 2048, false) != 0 {
		t.Error("written before the flush")
	}
	must(t, d.guestZero(ctx, 2<<20, 1<<20, false))
	must(t, d.guestFlush(ctx))
	want := append(append(make([]byte, 1<<20), big...), make([]byte, 9<<20)...)
	clear(want[2<<20 : 3<<20])
	if !bytes.Equal(everything(t, far, false), want) || !bytes.Equal(everything(t, d, false), want) {
		t.Error("the contents differ")
	}
	if hole, n := d.hole(8<<20, 8<<20); !hole || n < SectorSize {
		t.Errorf("hole: %v, %d", hole, n)
	}
	must(t, far.ChangePolicy(func(p *fault.Policy) { p.FailRanges = []fault.Range{{First: 5, Count: 1}} }))
	if _, err := d.ReadSectors(ctx, 0, 8, false); err == nil {
		t.Error("a failing read passed")
	}
	if _, err := d.ReadSectors(ctx, 8, 8, false); err != nil {
		t.Errorf("the connection did not survive that: %v", err)
	}
}

func TestQEMUIO(t *testing.T) {
	d := open(t, Config{Size: 64 << 20})
	url := "nbd+unix:///?socket=" + listen(t, d)
	run := func(commands ...string) string {
		args := []string{"-f", "raw", "-t", "writeback"}
		for _, c := range commands {
			args = append(args, "-c", c)
		}
		return tool(t, "qemu-io", append(args, url)...)
	}
	out := run("write -P 0x11 0 1M", "read -P 0x11 512 4k", "write -f -P 0x22 2M 64k", "read -P 0x22 2M 64k",
		"write -z 512k 64k",
		"read -P 0 512k 64k", "discard 0 4k", "read -P 0 0 4k", "read -P 0 32M 16M", "map")
	if strings.Contains(out, "failed") || strings.Contains(out, "mismatch") {
		t.Error(out)
	}
	for first, want := range map[int64]byte{0: 0, 8: 0x11, 1024: 0, 4096: 0x22} {
		if c := sector(t, d, first, false); c != want {
			t.Errorf("sector %d is %#x, want %#x", first, c, want)
		}
	}
	must(t, d.ChangePolicy(func(p *fault.Policy) { p.FailRanges = []fault.Range{{First: 100, Count: 1}} }))
	failing, err := exec.Command("qemu-io", "-f", "raw", "-c", "read 0 50k", "-c", "read 50k 4k", "-c",
		"read 51200 512", "-c", "read 51712 512", url).CombinedOutput()
	if n := strings.Count(string(failing), "Input/output error"); n != 2 || err == nil {
		t.Errorf("%d requests failed, want 2:\n%s", n, failing)
	}
	must(t, d.ChangePolicy(func(p *fault.Policy) { *p = fault.Policy{Delay: time.Millisecond} }))
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("aio_write -P %d %dk 4k", i+1, 4*i))
	}
	run(append(many, "aio_flush")...)
	for i := range int64(40) {
		if c := sector(t, d, 8*i, false); c != byte(i+1) {
			t.Errorf("block %d is %d", i, c)
		}
	}
}

func TestQEMUImg(t *testing.T) {
	content := make([]byte, 3<<20)
	for i := range content {
		content[i] = byte(i >> 9)
	}
	clear(content[1<<20 : 2<<20])
	path := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(path, content, 0o600))
	ro := open(t, Config{Image: path, ReadOnly: true})
	url := "nbd+unix:///?socket=" + listen(t, ro)
	copied := filepath.Join(t.TempDir(), "copy")
	tool(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", url, copied)
	if p, err := os.ReadFile(copied); err != nil || !bytes.Equal(p, content) {
		t.Errorf("the copy differs: %v", err)
	}
	d := open(t, Config{Size: 3 << 20})
	tool(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", path, "nbd+unix:///?socket="+listen(t, d))
	p, err := d.ReadSectors(context.Background(), 0, d.Size()/SectorSize, false)
	if err != nil || !bytes.Equal(p, content) {
		t.Errorf("what was copied in differs: %v", err)
	}
	// The zeroes in the middle were not stored.
	if out := tool(t, "qemu-img", "map", "-f", "raw", "--output=json", "nbd+unix:///?socket="+
		listen(t, d)); !strings.Contains(out,
		`"start": 1048576, "length": 1048576, "depth": 0, "present": true, "zero": true`) &&
		!strings.Contains(out, `"zero": true, "data": false`) {
		t.Errorf("map: %s", out)
	}
}
