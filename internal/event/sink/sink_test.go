package sink

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/event"
)

func batch(t testing.TB, ts int64, paths ...string) (b *event.Batch, frames []byte) {
	t.Helper()
	var events []event.Encoded
	for _, path := range paths {
		events = append(events, event.Encoded{Event: event.FixtureCacheHit{Path: path}})
	}
	b = event.NewBatch(ts, events...)
	frames, err := b.Bytes(event.Msgpack)
	if err != nil {
		t.Fatal(err)
	}
	return b, frames
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	must(t, os.WriteFile(path, []byte("old"), 0o644))
	s, err := Create(path, event.Msgpack)
	must(t, err)
	first, _ := batch(t, 1, "a")
	must(t, s.Put(first))
	must(t, s.Restart())
	var want []byte
	for i := range 3 {
		b, frames := batch(t, int64(i), "x", "y")
		must(t, s.Put(b))
		want = append(want, frames...)
		// Nothing is held back: at any moment the file has every whole frame.
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, want %d, %v", len(got), len(want), err)
		}
	}
	must(t, s.Close())
	d := event.NewDecoder(bytes.NewReader(want[:len(want)-2]))
	for err = nil; err == nil; {
		_, err = d.Decode()
	}
	if !errors.Is(err, event.ErrTruncated) {
		t.Error(err)
	}
}

func TestFileOfLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	s, err := Create(path, event.JSONL)
	must(t, err)
	b, _ := batch(t, 1, "a", "b")
	must(t, s.Put(b))
	must(t, s.Close())
	const want = `{"ts":1,"kind":"fixture_cache_hit","payload":{"path":"a"}}
{"ts":1,"kind":"fixture_cache_hit","payload":{"path":"b"}}
`
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

func TestFileBadPath(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "no", "such", "file")} {
		if _, err := Create(path, event.Msgpack); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestFileFull(t *testing.T) {
	s, err := Create("/dev/full", event.Msgpack)
	if err != nil {
		t.Skip("no /dev/full:", err)
	}
	defer s.Close()
	b, _ := batch(t, 1, "a")
	if err := s.Put(b); err == nil || !strings.Contains(err.Error(), "event file write") {
		t.Error(err)
	}
}

func TestPipe(t *testing.T) {
	r, w := io.Pipe()
	s := NewPipe(w, event.Msgpack)
	var want []byte
	for i := range 100 {
		b, frames := batch(t, int64(i), "a", "b")
		must(t, s.Put(b)) // nobody reads yet
		want = append(want, frames...)
	}
	got := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(r)
		got <- all
	}()
	must(t, s.Close())
	w.Close()
	if all := <-got; !bytes.Equal(all, want) {
		t.Errorf("%d bytes, want %d", len(all), len(want))
	}
}

func TestPipeWithoutReader(t *testing.T) {
	r, w := io.Pipe()
	s := NewPipe(w, event.Msgpack)
	r.Close()
	b, _ := batch(t, 1, "a")
	for s.Put(b) == nil { // until the writer has seen it
	}
	if err := s.Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

// A queue that is full lets a writer wait, and one that takes nothing is given up.
func TestQueue(t *testing.T) {
	r, w := io.Pipe()
	q := newQueue(w, 10)
	must(t, q.put(make([]byte, 100))) // always one
	for {
		if fits, err := q.offer(make([]byte, 6)); err != nil {
			t.Fatal(err)
		} else if !fits {
			break
		}
	}
	if err := q.drain(time.Millisecond); !errors.Is(err, errStuck) {
		t.Error(err)
	}
	r.Close()
	<-q.done
	if _, err := q.offer(nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

// listen returns a socket and a way to connect a client, which has connected when it returns.
func listen(t *testing.T) (*Socket, func() net.Conn) {
	t.Helper()
	s, err := Listen(filepath.Join(t.TempDir(), "s"), event.Msgpack)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s, func() net.Conn {
		n := s.Clients()
		conn, err := net.Dial("unix", s.listener.Addr().String())
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		for s.Clients() == n {
			time.Sleep(time.Millisecond)
		}
		return conn
	}
}

func (s *Socket) setRoom(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = n
}

func TestSocketManyReaders(t *testing.T) {
	s, connect := listen(t)
	first, firstFrames := batch(t, 1, "a")
	second, secondFrames := batch(t, 2, "b", "c")
	must(t, s.Put(first)) // nobody is there
	one := connect()
	must(t, s.Put(first))
	two, three := connect(), connect()
	three.Close() // it vanishes
	var later []byte
	for s.Clients() > 2 {
		must(t, s.Put(second))
		later = append(later, secondFrames...)
	}
	must(t, s.Close())
	if got, err := io.ReadAll(one); err != nil || !bytes.Equal(got, append(firstFrames, later...)) {
		t.Errorf("first reader: %q, %v", got, err)
	}
	if got, err := io.ReadAll(two); err != nil || !bytes.Equal(got, later) {
		t.Errorf("second reader: %q, %v", got, err)
	}
	if _, err := os.Lstat(s.listener.Addr().String()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// A client that reads nothing for a while loses whole events, is told how many, and does
// not keep the others from theirs.
func TestSocketSlowReader(t *testing.T) {
	s, connect := listen(t)
	s.setRoom(100 << 10)
	slow := connect()
	s.setRoom(1 << 30)
	fast := connect()
	const total = 100
	long := strings.Repeat("x", 10<<10)
	var all []byte
	for i := range total {
		b, frames := batch(t, int64(i), long)
		must(t, s.Put(b))
		all = append(all, frames...)
	}
	got := make(chan []event.Envelope)
	go func() {
		var list []event.Envelope
		d := event.NewDecoder(slow)
		for {
			env, err := d.Decode()
			if err != nil {
				if err != io.EOF {
					t.Error(err)
				}
				got <- list
				return
			}
			list = append(list, env)
		}
	}()
	s.mu.Lock()
	var queue *queue
	for c := range s.clients {
		if c.lost > 0 {
			queue = c.queue
		}
	}
	s.mu.Unlock()
	if queue == nil {
		t.Fatal("nothing was lost")
	}
	for busy := true; busy; time.Sleep(time.Millisecond) {
		queue.mu.Lock()
		busy = queue.size > 0
		queue.mu.Unlock()
	}
	b, frames := batch(t, total, "last")
	must(t, s.Put(b))
	go func() { must(t, s.Close()) }()
	if p, err := io.ReadAll(fast); err != nil || !bytes.Equal(p, append(all, frames...)) {
		t.Errorf("fast reader: %d bytes, %v", len(p), err)
	}
	list := <-got
	told, missed := 0, 0 // more than once something is lost, if the queue empties in between
	for _, env := range list {
		if lost, ok := env.Event.(event.EventsLost); ok {
			missed += int(lost.Count)
		} else {
			told++
		}
	}
	if told+missed != total+1 || missed == 0 || list[len(list)-1].Event != (event.FixtureCacheHit{Path: "last"}) {
		t.Errorf("%d events and %d lost, of %d; the last: %+v", told, missed, total+1, list[len(list)-1])
	}
}

func TestSocketPath(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, []byte("kept"), 0o644))
	taken := filepath.Join(dir, "taken")
	other, err := Listen(taken, event.Msgpack)
	must(t, err)
	defer other.Close()
	if info, err := os.Stat(taken); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for path, want := range map[string]string{
		file:                            "exists and is no socket",
		taken:                           "another program serves it",
		filepath.Join(dir, "none", "s"): "no such file or directory",
		filepath.Join(dir, strings.Repeat("x", 120)): "invalid argument",
	} {
		if _, err := Listen(path, event.Msgpack); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "kept" {
		t.Errorf("%q, %v", got, err)
	}
	// What a killed run has left is replaced.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "stale"), Net: "unix"})
	must(t, err)
	stale.SetUnlinkOnClose(false)
	stale.Close()
	again, err := Listen(filepath.Join(dir, "stale"), event.Msgpack)
	must(t, err)
	must(t, again.Close())
}
