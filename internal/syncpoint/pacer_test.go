package syncpoint

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rig is a Pacer with the other ends of its sockets: those of the plugin, and of QEMU's port.
type rig struct {
	*Pacer
	t             *testing.T
	control, port *os.File
	failed        chan error
	points        chan Point
}

func pair(t *testing.T) (a, b *os.File) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(p[0]), "a"), os.NewFile(uintptr(p[1]), "b")
	t.Cleanup(func() { b.Close() })
	return a, b
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, failed: make(chan error, 1), points: make(chan Point, 100)}
	var control, port *os.File
	control, r.control = pair(t)
	port, r.port = pair(t)
	r.Pacer = New(Config{Control: control, Port: port, Seed: 1, Arrived: func() {},
		Observe: func(p Point) error { r.points <- p; return nil },
		Failed:  func(err error) { r.failed <- err }})
	go r.Run()
	t.Cleanup(func() {
		r.control.Close()
		r.Pacer.Close()
		<-r.Done()
	})
	return r
}

// reach has the guest reach a point.
func (r *rig) reach(kind byte) {
	r.t.Helper()
	if _, err := r.control.Write([]byte{kind}); err != nil {
		r.t.Fatal(err)
	}
}

// goesOn waits until the guest goes on, and returns what it finds in its port.
func (r *rig) goesOn() string {
	r.t.Helper()
	var answer [1]byte
	if _, err := io.ReadFull(r.control, answer[:]); err != nil {
		r.t.Fatal(err)
	}
	if answer[0] == goOn {
		return ""
	}
	buf := make([]byte, 1<<20)
	n, err := r.port.Read(buf)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(buf[:n])
}

// stands checks that the guest does not go on at the point that it has reached.
func (r *rig) stands() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mayGo() {
		r.t.Error("the guest goes on")
	}
}

func TestGuestStandsUntilItIsWaitedFor(t *testing.T) {
	r := newRig(t)
	r.reach(loaded)
	<-r.Loaded()
	r.reach(empty)
	s := r.Dial()
	arrived := make(chan []byte)
	go func() {
		for {
			b := make([]byte, 100)
			n, err := s.Read(b)
			if err != nil {
				close(arrived)
				return
			}
			arrived <- b[:n]
		}
	}()
	s.Adjust(+1, 0) // an operation begins
	if _, err := s.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	r.stands()
	s.Adjust(-1, +1) // and waits
	got := r.goesOn()
	if p := <-r.points; string(p.Sent) != "request" || got != "request" || p.Kind != empty {
		t.Errorf("%+v, the guest has %q", p, got)
	}
	// What the guest answers is dealt with before it goes on.
	if _, err := r.port.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	r.reach('s')
	if b := <-arrived; string(b) != "answer" {
		t.Errorf("%q", b)
	}
	s.Adjust(+1, -1)
	r.stands()
	done := r.Free()
	r.stands() // somebody of the host is at work
	s.Adjust(-1, 0)
	r.goesOn()
	done()
	if p := <-r.points; string(p.Received) != "answer" || len(p.Sent) > 0 {
		t.Errorf("%+v", p)
	}
	s.Close()
	<-arrived
}

// TestRoom has the host send more while the guest has not read what it was sent.
func TestRoom(t *testing.T) {
	r := newRig(t)
	s := r.Dial()
	go func() { _, _ = s.Read(make([]byte, 1)) }()
	if _, err := s.Write(make([]byte, chunk+10)); err != nil {
		t.Fatal(err)
	}
	s.Adjust(0, +1)
	for _, step := range []struct {
		kind byte
		sent int
	}{{'t', 0}, {empty, chunk}, {'t', 0}, {'s', 0}, {empty, 10}, {empty, 0}} {
		r.reach(step.kind)
		got := r.goesOn()
		if p := <-r.points; len(p.Sent) != step.sent || len(got) != step.sent {
			t.Errorf("at %c %d bytes, %d in the port, want %d", step.kind, len(p.Sent), len(got), step.sent)
		}
	}
}

func TestFullPort(t *testing.T) {
	r := newRig(t)
	s := r.Dial()
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	s.Adjust(0, +1)
	ended := make(chan error)
	go func() {
		_, err := s.Read(make([]byte, 1))
		ended <- err
	}()
	r.reach(empty)
	r.reach(full)
	if err := <-ended; err != io.EOF {
		t.Error(err)
	}
	if err := <-r.failed; err != errFull {
		t.Error(err)
	}
}

// TestStop has QEMU stop the guest at a point, also where somebody waits for it to go on.
func TestStop(t *testing.T) {
	r := newRig(t)
	given, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Stop(given, func() error { return errors.New("stopped anywhere") }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s := r.Dial()
	r.reach(empty)
	var answer [1]byte
	stopped := errors.New("stopped")
	err := r.Stop(t.Context(), func() error {
		if _, err := io.ReadFull(r.control, answer[:]); err != nil {
			return err
		}
		return stopped
	})
	if err != stopped || answer[0] != stopNow {
		t.Error(err, answer)
	}
	// It goes on as it did.
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	s.Adjust(0, +1)
	go func() { _, _ = s.Read(make([]byte, 1)) }()
	r.reach('t')
	if got := r.goesOn(); got != "x" {
		t.Errorf("%q", got)
	}
}

// TestRestored has a guest whose agent has read all before the snapshot.
func TestRestored(t *testing.T) {
	for restored, want := range map[bool]string{true: "x", false: ""} {
		r := newRig(t)
		r.mu.Lock()
		r.room = New(Config{Restored: restored}).room
		r.mu.Unlock()
		s := r.Dial()
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		s.Adjust(0, +1)
		go func() { _, _ = s.Read(make([]byte, 1)) }()
		r.reach('t')
		if got := r.goesOn(); got != want {
			t.Errorf("restored %t: %q", restored, got)
		}
	}
}

func TestSessions(t *testing.T) {
	r := newRig(t)
	first := r.Dial()
	if err := first.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if _, err := first.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = first.SetDeadline(time.Time{})
	second := r.Dial()
	if _, err := first.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	r.control.Close()
	if _, err := second.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	<-r.Done()
	if _, err := r.Dial().Write([]byte("x")); err == nil {
		t.Error("written to a guest that is gone")
	}
}

func TestSeedDecides(t *testing.T) {
	read := func(seed uint64) (b [16]byte) {
		_, _ = New(Config{Seed: seed}).Read(b[:])
		return b
	}
	first := read(1)
	if first != read(1) || first == read(2) {
		t.Error("the seed does not decide")
	}
}

func TestCheckVersion(t *testing.T) {
	for version, ok := range map[string]bool{"7.2.22 (Debian)": true, "10.0.13": true, "8.0.0": false, "10.1.0": false,
		"": false} {
		if err := CheckVersion(version); (err == nil) != ok {
			t.Errorf("%s: %v", version, err)
		}
	}
}
