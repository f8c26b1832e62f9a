package syncpoint

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// wire is a network of guests that all hear each other. It writes down what happens.
type wire struct {
	mu    sync.Mutex
	links map[string]*wireLink
	log   []string
}

// wireLink is the link of one guest. Its frames are bytes of their own.
type wireLink struct {
	wire *wire
	name string
	out  []byte
	in   []string
}

func (l *wireLink) Collect(stream []byte) error {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	l.out = append(l.out, stream...)
	return nil
}

func (l *wireLink) Send() int {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	n := len(l.out)
	for _, b := range l.out {
		for _, o := range l.wire.links {
			if o != l {
				o.in = append(o.in, string(b))
			}
		}
		l.wire.log = append(l.wire.log, l.name+" sends "+string(b))
	}
	l.out = nil
	return n
}

func (l *wireLink) Drop() {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	l.out = nil
}

func (l *wireLink) Receive() []byte {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	if len(l.in) == 0 {
		return nil
	}
	b := l.in[0]
	l.in = l.in[1:]
	return []byte(b)
}

func (w *wire) advance(time.Duration) (time.Duration, bool) { return 0, false }

// groupGuest is a guest of a group, with the other ends of its sockets.
type groupGuest struct {
	t                        *testing.T
	pacer                    *Pacer
	control, port, pace, nic *os.File
	session                  *Session

	next, every time.Duration // of its ticks
	got         []string      // frames
}

func newGroupGuest(t *testing.T, w *wire, g *Group, name string) *groupGuest {
	t.Helper()
	x := &groupGuest{t: t}
	l := &wireLink{wire: w, name: name}
	w.links[name] = l
	var ours [4]*os.File
	for i, theirs := range []**os.File{&x.control, &x.port, &x.pace, &x.nic} {
		ours[i], *theirs = pair(t)
	}
	x.pacer = New(Config{Control: ours[0], Port: ours[1], Pace: ours[2], NICs: []NIC{NewNIC(ours[3], l)}, Group: g,
		Key: name, Arrived: func() {}, Failed: func(err error) { t.Error(err) }})
	go x.pacer.Run()
	t.Cleanup(func() {
		x.control.Close()
		x.pacer.Close()
		<-x.pacer.Done()
	})
	x.session = x.pacer.Dial()
	go func() {
		for b := make([]byte, 100); ; {
			if _, err := x.session.Read(b); err != nil {
				return
			}
		}
	}()
	return x
}

// meet has the guest reach a point, and returns when it goes on from there.
func (x *groupGuest) meet(kind byte) {
	if _, err := x.control.Write([]byte{kind}); err != nil {
		x.t.Error(err)
		return
	}
	for {
		var answer [1]byte
		if _, err := io.ReadFull(x.control, answer[:]); err != nil {
			return
		}
		switch answer[0] {
		case frame:
			var nic, b [1]byte
			_, err := io.ReadFull(x.control, nic[:])
			if err == nil {
				_, err = io.ReadFull(x.nic, b[:])
			}
			if err == nil {
				_, err = x.control.Write([]byte{'T'})
			}
			if err != nil {
				x.t.Error(err)
				return
			}
			x.got = append(x.got, string(b[:]))
			continue
		case takeThis:
			var plan [16]byte
			if _, err := io.ReadFull(x.pace, plan[:]); err != nil {
				x.t.Error(err)
				return
			}
			x.next = time.Duration(binary.LittleEndian.Uint64(plan[:]))
			x.every = time.Duration(binary.LittleEndian.Uint64(plan[8:]))
		}
		return
	}
}

// tick has the guest come to its next tick, its clock being ahead of the others' by that much, and go on.
func (x *groupGuest) tick(ahead time.Duration) {
	if x.next == 0 {
		x.next = ahead
	}
	if _, err := x.pace.Write(binary.LittleEndian.AppendUint64(nil, uint64(x.next))); err != nil {
		x.t.Error(err)
	}
	x.next += x.every
	x.meet(ticked)
}

// TestGroup has two guests with different clocks, of which each sends a frame in each window. However long each takes
// for it, the frames change hands at the same ticks, in the order that the seed decides.
func TestGroup(t *testing.T) {
	const windows = 12
	run := func(seed uint64, slow string) (log []string, got [2][]string) {
		w := &wire{links: map[string]*wireLink{}}
		g := NewGroup(seed, w.advance)
		guests := []*groupGuest{newGroupGuest(t, w, g, "a"), newGroupGuest(t, w, g, "b")}
		guests[0].session.Adjust(0, +1) // somebody waits for one of them
		var running sync.WaitGroup
		for i, x := range guests {
			running.Go(func() {
				x.pacer.Join()
				x.meet(empty)
				for n := range windows {
					if slow == fmt.Sprint(i) {
						time.Sleep(2 * time.Millisecond)
					}
					if _, err := x.nic.Write([]byte{byte('0' + n)}); err != nil {
						t.Error(err)
					}
					x.tick(time.Duration(i+1) * time.Hour)
				}
			})
		}
		running.Wait()
		return w.log, [2][]string{guests[0].got, guests[1].got}
	}
	want, got := run(1, "")
	// In the last window, nobody comes to its end.
	if len(want) != 2*windows-2 && len(want) != 2*windows || len(got[0]) < windows-2 {
		t.Errorf("%q, they have %q", want, got)
	}
	for _, slow := range []string{"0", "1"} {
		log, now := run(1, slow)
		if !slices.Equal(log, want) || !slices.Equal(now[0], got[0]) || !slices.Equal(now[1], got[1]) {
			t.Errorf("with a slow guest %s:\n%q %q\nwithout:\n%q %q", slow, log, now, want, got)
		}
	}
	if other, _ := run(2, ""); slices.Equal(other, want) {
		t.Errorf("two seeds have one order: %s", strings.Join(want, ", "))
	}
}

// TestGroupWaits has a guest stand while another one boots, and while its host is about to send something to a third.
func TestGroupWaits(t *testing.T) {
	w := &wire{links: map[string]*wireLink{}}
	g := NewGroup(1, w.advance)
	a, b := newGroupGuest(t, w, g, "a"), newGroupGuest(t, w, g, "b")
	a.pacer.Join()
	a.session.Adjust(0, +1)
	goesOn := make(chan bool, 1)
	go func() {
		a.meet(empty)
		goesOn <- true
	}()
	mayGo := func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return a.pacer.mayGo()
	}
	for !isAt(a) {
		time.Sleep(time.Millisecond)
	}
	if mayGo() {
		t.Error("it goes on while another one boots")
	}
	b.session.Adjust(+1, 0)
	b.pacer.Join()
	go b.meet(empty)
	for !isAt(b) {
		time.Sleep(time.Millisecond)
	}
	if mayGo() {
		t.Error("it goes on while the host is about to send something to another one")
	}
	b.session.Adjust(-1, 0)
	<-goesOn
}

func isAt(x *groupGuest) bool {
	x.pacer.mu.Lock()
	defer x.pacer.mu.Unlock()
	return x.pacer.stands
}

// TestAtRest has something be done while the guest stands.
func TestAtRest(t *testing.T) {
	r := newRig(t)
	s := r.Dial()
	go func() { _, _ = s.Read(make([]byte, 1)) }()
	r.reach(empty)
	if err := r.AtRest(t.Context(), func() error {
		s.Adjust(0, +1)
		r.stands()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var answer [1]byte
	if _, err := io.ReadFull(r.control, answer[:]); err != nil || answer[0] != takeThis {
		t.Errorf("%d, %v: QEMU has not done what follows from it", answer[0], err)
	}
}
