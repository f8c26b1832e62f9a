package nbd

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
	out := run("write -P 0x11 0 1M", "read -P 0x11 512 4k", "write -f -P 0x22 2M 64k", "read -P 0x22 2M 64k", "write -z 512k 64k",
		"read -P 0 512k 64k", "discard 0 4k", "read -P 0 0 4k", "read -P 0 32M 16M", "map")
	if strings.Contains(out, "failed") || strings.Contains(out, "mismatch") {
		t.Error(out)
	}
	for first, want := range map[int64]byte{0: 0, 8: 0x11, 1024: 0, 4096: 0x22} {
		if c := sector(t, d, first, false); c != want {
			t.Errorf("sector %d is %#x, want %#x", first, c, want)
		}
	}
	must(t, d.ChangePolicy(func(p *Policy) { p.FailRanges = []Range{{100, 1}} }))
	failing, err := exec.Command("qemu-io", "-f", "raw", "-c", "read 0 50k", "-c", "read 50k 4k", "-c", "read 51200 512", "-c", "read 51712 512", url).CombinedOutput()
	if n := strings.Count(string(failing), "Input/output error"); n != 2 || err == nil {
		t.Errorf("%d requests failed, want 2:\n%s", n, failing)
	}
	must(t, d.ChangePolicy(func(p *Policy) { *p = Policy{Delay: time.Millisecond} }))
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
	if out := tool(t, "qemu-img", "map", "-f", "raw", "--output=json", "nbd+unix:///?socket="+listen(t, d)); !strings.Contains(out, `"start": 1048576, "length": 1048576, "depth": 0, "present": true, "zero": true`) &&
		!strings.Contains(out, `"zero": true, "data": false`) {
		t.Errorf("map: %s", out)
	}
}

// pipeTo serves d on one connection and returns the client's end.
func pipeTo(t *testing.T, d *Disk) (client net.Conn, ended <-chan error) {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- d.Serve(context.Background(), server) }()
	t.Cleanup(func() { client.Close() })
	return client, done
}

func command28(flags, kind uint16, cookie, off uint64, n uint32) []byte {
	be := binary.BigEndian
	p := be.AppendUint32(nil, magicRequest)
	p = be.AppendUint16(be.AppendUint16(p, flags), kind)
	p = be.AppendUint64(be.AppendUint64(p, cookie), off)
	return be.AppendUint32(p, n)
}

// TestOldClient speaks with as little of the protocol as is allowed, and badly.
func TestOldClient(t *testing.T) {
	d := open(t, Config{Size: 1 << 20})
	c, ended := pipeTo(t, d)
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
	write(be.AppendUint32(be.AppendUint32(be.AppendUint64(nil, magicOption), 99), 0))
	if p := read(20); be.Uint32(p[12:]) != repErrUnsup {
		t.Errorf("unknown option: %x", p)
	}
	write(be.AppendUint32(be.AppendUint32(be.AppendUint64(nil, magicOption), optExportName), 0))
	if p := read(8 + 2 + 124); be.Uint64(p) != 1<<20 {
		t.Errorf("size: %x", p)
	}
	for i, tc := range []struct {
		request []byte
		errno   uint32
	}{
		{command28(0, cmdRead, 1, 0, 0), errnoInval},
		{command28(0, cmdRead, 1, 1, 512), errnoInval},
		{command28(0, cmdRead, 1, 1<<20, 512), errnoInval},
		{command28(0, cmdRead, 1, 1<<64-512, 512), errnoInval},
		{command28(cmdFlagDF, cmdRead, 1, 0, 512), errnoInval},
		{command28(0, cmdBlockStatus, 1, 0, 512), errnoInval},
		{append(command28(0, cmdWrite, 1, 1<<20, 512), block('x', 1)...), errnoNoSpace},
		{command28(0, cmdZeroes, 1, 0, 1<<20+512), errnoNoSpace},
		{command28(0, cmdFlush, 1, 512, 0), errnoInval},
		{command28(0, 77, 1, 0, 512), errnoInval},
		{command28(0, cmdTrim, 1, 0, 512), 0},
		{append(command28(cmdFlagFUA, cmdWrite, 1, 0, 512), block('y', 1)...), 0},
	} {
		write(tc.request)
		if p := read(16); be.Uint32(p[4:]) != tc.errno || be.Uint64(p[8:]) != 1 {
			t.Errorf("request %d: %x, want errno %d", i, p, tc.errno)
		}
	}
	write(command28(0, cmdRead, 2, 0, 512))
	if p := read(16 + 512); !bytes.Equal(p[16:], block('y', 1)) {
		t.Errorf("%x", p)
	}
	write(command28(0, cmdDisc, 3, 0, 0))
	must(t, <-ended)

	c, ended = pipeTo(t, d)
	read(18)
	write(be.AppendUint32(nil, cFlagFixedNewstyle))
	if _, err := c.Write(bytes.Repeat([]byte{'x'}, 16)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "no option magic") {
		t.Error(err)
	}
}

// stream is a client that says what it has and hears nothing.
type stream struct{ io.Reader }

func (stream) Write(p []byte) (int, error) { return len(p), nil }

// FuzzSession feeds a whole conversation to the server.
func FuzzSession(f *testing.F) {
	be := binary.BigEndian
	opt := func(kind uint32, data []byte) []byte {
		p := be.AppendUint32(be.AppendUint64(nil, magicOption), kind)
		return append(be.AppendUint32(p, uint32(len(data))), data...)
	}
	start := be.AppendUint32(nil, cFlagFixedNewstyle|cFlagNoZeroes)
	info := []byte("\x00\x00\x00\x00\x00\x01\x00\x03")
	meta := append([]byte("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x0f"), contextName...)
	f.Add(bytes.Join([][]byte{start, opt(optStructuredReply, nil), opt(optSetMeta, meta), opt(optListMeta, meta), opt(optInfo, info),
		opt(optGo, info), command28(0, cmdRead, 1, 0, 512), append(command28(cmdFlagFUA, cmdWrite, 2, 512, 512), block('x', 1)...),
		command28(0, cmdBlockStatus, 3, 0, 4096), command28(0, cmdFlush, 4, 0, 0), command28(0, cmdTrim, 5, 0, 1<<20),
		command28(0, cmdDisc, 6, 0, 0)}, nil))
	f.Add(bytes.Join([][]byte{start, opt(optList, nil), opt(optExportName, []byte("x")), command28(0, cmdRead, 1, 1<<63, 1<<31)}, nil))
	f.Add(bytes.Join([][]byte{start, opt(optAbort, nil)}, nil))
	f.Add(bytes.Join([][]byte{start, opt(optGo, []byte("\xff\xff\xff\xff\x00\x00"))}, nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		d, err := Open(Config{Size: 1 << 20, TempDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		conn := stream{bytes.NewReader(p)}
		s := &session{disk: d, conn: conn, r: newReader(conn), room: make(chan struct{}, maxHeld)}
		if err := s.handshake(); err == nil {
			_ = s.transmit(context.Background())
		}
	})
}
