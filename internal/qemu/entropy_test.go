package qemu

import (
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEntropyIsAFunctionOfSeedAndUse(t *testing.T) {
	read := func(seed uint64, use string, sizes ...int) string {
		var all []byte
		s := entropyStream(seed, use)
		for _, n := range sizes {
			b := make([]byte, n)
			if _, err := io.ReadFull(s, b); err != nil {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
		return string(all)
	}
	if read(7, "a", 64) != read(7, "a", 1, 30, 33) {
		t.Error("the stream depends on request sizes")
	}
	if read(7, "a", 64) == read(8, "a", 64) || read(7, "a", 64) == read(7|1<<63, "a", 64) {
		t.Error("two seeds share a stream")
	}
	if read(7, "a", 64) == read(7, "b", 64) {
		t.Error("two uses share a stream")
	}
	if string(KernelEntropy(7, "a", 64)) == read(7, "a", 64) {
		t.Error("the kernel's entropy is the stream's")
	}
}

// device is the random device at the other end of an entropy's socket.
type device struct {
	t    *testing.T
	conn net.Conn
}

// entropyPair starts a server, and returns it with its device.
func entropyPair(t *testing.T, ram *os.File) (*entropy, *device) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(p[0], true); err != nil {
		t.Fatal(err)
	}
	other := os.NewFile(uintptr(p[1]), "device")
	conn, err := net.FileConn(other)
	other.Close()
	if err != nil {
		t.Fatal(err)
	}
	e := newEntropy(os.NewFile(uintptr(p[0]), "rng"), 7, ram)
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.run()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return e, &device{t, conn}
}

func (d *device) ask() {
	if _, err := d.conn.Write([]byte{2, EntropyBlock}); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) block() string {
	b := make([]byte, EntropyBlock)
	if _, err := io.ReadFull(d.conn, b); err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

func TestEntropyRestart(t *testing.T) {
	e, d := entropyPair(t, nil)
	d.ask()
	early := d.block()
	for _, use := range []string{"a", "b"} {
		first := string(e.restart(use))
		for range 3 { // by a kernel, as often as it likes
			d.ask()
			if d.block() != first {
				t.Fatal("another block while the first one is held")
			}
		}
		// Asked for before the release, whether the server has seen it or not.
		d.ask()
		e.release()
		if d.block() != first {
			t.Fatal("a request from before the release was answered with what follows")
		}
		d.ask()
		d.ask()
		got := early + first + d.block() + d.block()
		want := make([]byte, 3*EntropyBlock)
		_, _ = entropyStream(7, use).Read(want)
		if got != early+string(want) {
			t.Fatal("the stream does not go on behind its first block")
		}
	}
}

func TestEntropyBadRequest(t *testing.T) {
	_, d := entropyPair(t, nil)
	if _, err := d.conn.Write([]byte{9, 1}); err != nil {
		t.Fatal(err)
	}
	if n, err := d.conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatal(n, err)
	}
}

// TestEntropyOfTheKernelsThread has a guest's kernel take blocks beside a reader.
func TestEntropyOfTheKernelsThread(t *testing.T) {
	const size, thread, core, driver = 4 << 20, 1 << 20, 2<<20 + 64, 3<<20 + 128
	ram, err := newRAM(size)
	if err != nil {
		t.Fatal(err)
	}
	defer ram.Close()
	e, d := entropyPair(t, ram)
	put := func(at int64, block string) {
		if _, err := ram.WriteAt([]byte(block), at); err != nil {
			t.Fatal(err)
		}
	}
	d.ask() // by the driver, when it starts
	held := d.block()
	put(driver, held)
	// take has a block taken into a buffer, after which the driver asks for the next.
	take := func(buffer int64) string {
		got := held
		put(buffer, got)
		d.ask()
		held = d.block()
		put(driver, held)
		return got
	}
	for range 3 {
		take(thread)
	}
	first := string(e.restart("a"))
	for take(core) != first { // the agent
	}
	e.release()
	want := make([]byte, 3*EntropyBlock)
	_, _ = entropyStream(7, "a").Read(want)
	var got string
	for _, buffer := range []int64{core, thread, thread, core, thread, core} {
		if block := take(buffer); buffer == core {
			got += block
		}
	}
	if got != string(want) {
		t.Error("the reader missed what the kernel's thread took")
	}
	// The next boot has its buffers elsewhere.
	take(thread + 640)
	take(thread + 640)
	first = string(e.restart("a"))
	for take(core-64) != first {
	}
	e.release()
	if take(thread+640) != first || take(core-64) != first || take(core-64) == first {
		t.Error("wrong after a reset")
	}
}
