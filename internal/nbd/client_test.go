package nbd

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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
	for _, want := range []string{"newstyle-fixed", "using structured packets", "export-size: 3145728", "base:allocation", "can_flush: true",
		"can_fua: true", "can_trim: true", "can_zero: true", "block_size_minimum: 512"} {
		if !strings.Contains(info, want) {
			t.Errorf("nbdinfo has no %q:\n%s", want, info)
		}
	}
	if m := strings.Fields(tool(t, "nbdinfo", "--map", url)); strings.Join(m, " ") != "0 1048576 0 data 1048576 1048576 3 hole,zero 2097152 1048576 0 data" {
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
	must(t, far.ChangePolicy(func(p *Policy) { p.FailRanges = []Range{{5, 1}} }))
	if _, err := d.ReadSectors(ctx, 0, 8, false); err == nil {
		t.Error("a failing read passed")
	}
	if _, err := d.ReadSectors(ctx, 8, 8, false); err != nil {
		t.Errorf("the connection did not survive that: %v", err)
	}
}

// scripted is a server that says what it was told to.
type scripted struct {
	net.Conn
	r *bytes.Reader
}

func (s scripted) Read(p []byte) (int, error)  { return s.r.Read(p) }
func (s scripted) Write(p []byte) (int, error) { return len(p), nil }
func (s scripted) Close() error                { return nil }

func FuzzClient(f *testing.F) {
	// What our own server says to a client that reads.
	near, far := net.Pipe()
	d, err := Open(Config{Size: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- d.Serve(context.Background(), far) }()
	said := &tap{Conn: near}
	c, err := newClient(said)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := c.ReadAt(make([]byte, 4096), 0); err != nil {
		f.Fatal(err)
	}
	c.hole(0, 1<<20)
	_ = c.Close()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		f.Fatal("the server does not end")
	}
	f.Add(said.got.Bytes())
	f.Add(said.got.Bytes()[:18])
	f.Fuzz(func(_ *testing.T, p []byte) {
		c, err := newClient(scripted{r: bytes.NewReader(p)})
		if err != nil {
			return
		}
		c.size = min(max(c.size, 0), 1<<20)
		buf := make([]byte, 4096)
		_, _ = c.ReadAt(buf, 0)
		c.hole(0, 4096)
		_, _ = c.WriteAt(buf, 0)
		_ = c.flush()
		_ = c.Close()
	})
}

// tap keeps what was read.
type tap struct {
	net.Conn
	got bytes.Buffer
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.got.Write(p[:n])
	return n, err
}
