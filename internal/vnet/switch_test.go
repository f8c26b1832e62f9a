package vnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

// bench is a switch under a clock of the test's, with ports that keep what they get.
type bench struct {
	t   testing.TB
	s   *Switch
	at  time.Time
	ids map[string]*Port
}

func newBench(t testing.TB, seed uint64, names ...string) *bench {
	b := &bench{t: t, at: time.Unix(1000, 0), ids: map[string]*Port{}}
	b.s = newSwitch(Config{Seed: seed, Now: func() time.Time { return b.at }})
	for _, n := range names {
		b.add(n)
	}
	return b
}

// add adds a port.
func (b *bench) add(name string) {
	p := b.s.AddPort(name)
	conn, _ := net.Pipe()
	p.live = &session{conn: conn, wake: make(chan struct{}, 1)}
	b.ids[name] = p
}

// pass lets time go by.
func (b *bench) pass(d time.Duration) {
	end := b.at.Add(d)
	for {
		wait, more := b.s.release()
		if !more || b.at.Add(wait).After(end) {
			break
		}
		b.at = b.at.Add(wait)
	}
	b.at = end
	b.s.release()
}

func (b *bench) send(from string, frames ...[]byte) { b.s.enter(b.ids[from], frames) }

// take returns the frames that a port was given since the last call.
func (b *bench) take(name string) (out [][]byte) {
	live := b.ids[name].live
	stream := live.pending
	live.pending = nil
	for {
		frame, size, err := cut(stream)
		if err != nil {
			b.t.Fatal(err)
		}
		if size == 0 {
			return out
		}
		out = append(out, frame)
		stream = stream[size:]
	}
}

var broadcast = []byte{255, 255, 255, 255, 255, 255}

func mac(n byte) []byte { return []byte{2, 0, 0, 0, 0, n} }

// frame makes one with a number in it, padded to size.
func frame(to, from []byte, number uint32, size int) []byte {
	f := slices.Concat(to, from, []byte{0x88, 0xb5})
	f = binary.BigEndian.AppendUint32(f, number)
	return append(f, make([]byte, max(0, size-len(f)))...)
}

func number(f []byte) uint32 { return binary.BigEndian.Uint32(f[headerLen:]) }

func numbers(frames [][]byte) (out []uint32) {
	for _, f := range frames {
		out = append(out, number(f))
	}
	return out
}

func TestLearning(t *testing.T) {
	b := newBench(t, 1, "a", "b", "c")
	count := func(want string) {
		t.Helper()
		if got := fmt.Sprint(len(b.take("a")), len(b.take("b")), len(b.take("c"))); got != want {
			t.Errorf("a, b, c got %s frames, want %s", got, want)
		}
	}
	b.send("a", frame(mac(2), mac(1), 0, 60)) // unknown: floods
	count("0 1 1")
	b.send("b", frame(mac(1), mac(2), 0, 60)) // a was learned
	count("1 0 0")
	b.send("a", frame(mac(2), mac(1), 0, 60))
	count("0 1 0")
	b.send("a", frame(broadcast, mac(1), 0, 60))
	count("0 1 1")
	b.send("c", frame(mac(1), mac(2), 0, 60)) // b's address moves to c
	count("1 0 0")
	b.send("a", frame(mac(2), mac(1), 0, 60))
	count("0 0 1")
	b.send("a", frame(mac(1), mac(1), 0, 60)) // to itself
	count("0 0 0")
	b.pass(ageLimit + time.Second)
	b.send("a", frame(mac(2), mac(1), 0, 60)) // forgotten
	count("0 1 1")
	b.send("c", frame(mac(2), broadcast, 0, 60)) // a group is no sender, and is not learned
	count("1 1 0")
	b.send("a", frame(mac(9), mac(1), 0, 60)[:13], frame(mac(9), mac(1), 0, MaxFrame+1))
	count("0 0 0")
	if e := b.ids["a"].Counters().Errors; e != 2 {
		t.Errorf("%d errors of a runt and a giant", e)
	}
	b.send("a", frame(mac(9), mac(1), 0, MaxFrame))
	count("0 1 1")
	b.ids["c"].SetUp(false)
	b.send("a", frame(mac(9), mac(1), 0, 60))
	b.send("c", frame(mac(9), mac(1), 0, 60))
	count("0 1 0")
}

func TestLearnedIsBounded(t *testing.T) {
	b := newBench(t, 1, "a", "b")
	for i := range 3 * maxLearned {
		src := binary.BigEndian.AppendUint32([]byte{2, 0}, uint32(i))
		b.send("a", frame(mac(1), src, 0, 60))
		b.take("b")
	}
	if n := len(b.s.table); n != maxLearned {
		t.Errorf("%d addresses learned", n)
	}
}

func TestPartitions(t *testing.T) {
	b := newBench(t, 1, "a", "b", "c")
	reach := func() (out string) {
		for _, from := range []string{"a", "b", "c"} {
			b.send(from, frame(broadcast, mac(from[0]), 0, 60))
			for _, to := range []string{"a", "b", "c"} {
				if len(b.take(to)) > 0 {
					out += from + to + " "
				}
			}
		}
		return out
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"nothing", func() {}, "ab ac ba bc ca cb "},
		{"partition", func() { b.s.Partition("a", "b") }, "ac bc ca cb "},
		{"one way", func() { b.s.PartitionOneWay("c", "a") }, "ac bc cb "},
		{"unpartition", func() { b.s.Unpartition("b", "a") }, "ab ac ba bc cb "},
		{"isolate", func() { b.s.Isolate("b", true) }, "ac "},
		{"restore all", func() { b.s.RestoreAll() }, "ac ca "},
		{"all", func() { b.s.PartitionAll() }, ""},
		{"all but one pair", func() { b.s.Unpartition("c", "a") }, "ac ca "},
		{"all again", func() { b.s.PartitionAll() }, ""},
		{"restore all again", func() { b.s.RestoreAll() }, "ac ca "},
		{"not all any more", func() { b.s.Unpartition("c", "a"); b.s.PartitionAll() }, ""},
		{"reset keeps isolation", func() { b.s.Reset() }, "ac ca "},
		{"unisolate", func() { b.s.Isolate("b", false) }, "ab ac ba bc ca cb "},
		{"waits for the port", func() { b.s.Partition("a", "d") }, "ab ac ba bc ca cb "},
	} {
		step.do()
		if got := reach(); got != step.want {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
	b.s.AddPort("d")
	if !b.s.IsPartitioned("d", "a") || b.s.IsPartitioned("d", "b") {
		t.Error("a rule did not wait for its port")
	}
	b.s.RemovePort("d")
	if b.s.IsPartitioned("d", "a") {
		t.Error("a rule outlives its port")
	}
	b.s.PartitionAll()
	b.add("d")
	b.add(GatewayName)
	b.send("a", frame(broadcast, mac('a'), 0, 60))
	if len(b.take("d")) > 0 || len(b.take(GatewayName)) == 0 {
		t.Error("the partition of all does not hold for a later port, or holds for the gateway")
	}
	b.s.Unpartition("a", "d")
	b.s.RestoreAll()
	b.s.PartitionAll()
	b.s.PartitionOneWay("b", "a")
	b.s.Unpartition("a", "b")
	if !b.s.IsPartitioned("b", "a") || b.s.IsPartitioned("a", "b") || !b.s.IsPartitioned("a", "d") {
		t.Error("wrong pairs are partitioned")
	}
}

func TestValues(t *testing.T) {
	s := newSwitch(Config{})
	s.Set(Latency, 20)
	s.SetPair("a", "b", Latency, 5)
	s.SetPair("a", "b", Loss, 7)
	if v := s.PairRule("a", "b", Latency).Value; v != 5 {
		t.Error(v)
	}
	if v := s.PairRule("b", "a", Latency).Value; v != 20 {
		t.Error(v)
	}
	s.SetPair("a", "b", Latency, 0)
	if v := s.PairRule("a", "b", Latency).Value; v != 20 {
		t.Error(v)
	}
	if v := s.PairRule("a", "b", Loss).Value; v != 7 || s.Rule(Loss).Value != 0 {
		t.Error(v)
	}
	s.Reset()
	if v := s.PairRule("a", "b", Loss).Value; v != 0 || s.Rule(Latency).Value != 0 {
		t.Error(v)
	}
}

func TestSameSeedSameFates(t *testing.T) {
	run := func(seed uint64) []uint32 {
		b := newBench(t, seed, "a", "b")
		b.s.Set(Loss, 40)
		for n := range uint32(500) {
			b.send("a", frame(broadcast, mac(1), n, 60))
		}
		return numbers(b.take("b"))
	}
	first := run(7)
	if !slices.Equal(first, run(7)) {
		t.Error("one seed, two outcomes")
	}
	if slices.Equal(first, run(8)) {
		t.Error("two seeds, one outcome")
	}
	if n := len(first); n < 240 || n > 360 {
		t.Errorf("%d of 500 frames arrived at 40 %% loss", n)
	}
}

// TestRulesActAtOnce looks at frames under way when the rules change.
func TestRulesActAtOnce(t *testing.T) {
	b := newBench(t, 1, "a", "b")
	f := frame(broadcast, mac(1), 0, 60)
	b.s.Set(Latency, 10_000)
	b.send("a", f)
	b.s.Set(Latency, 5)
	b.pass(5 * time.Millisecond)
	if n := len(b.take("b")); n != 1 {
		t.Errorf("%d frames after the latency was lowered", n)
	}
	b.send("a", f)
	b.s.Partition("a", "b")
	b.pass(time.Minute)
	if n := len(b.take("b")); n != 0 {
		t.Errorf("%d frames passed a partition", n)
	}
	b.s.Reset()
	b.s.Set(Bandwidth, 1)
	b.send("a", f)
	b.s.Set(Bandwidth, 0)
	b.pass(0)
	if n := len(b.take("b")); n != 1 || b.s.held != 0 {
		t.Errorf("%d frames after the limit was lifted", n)
	}
	b.s.Set(Latency, 1)
	b.send("a", f)
	b.s.RemovePort("b")
	b.pass(time.Second)
	if b.s.held != 0 {
		t.Errorf("%d bytes under way to a port that is gone", b.s.held)
	}
}

func TestBandwidth(t *testing.T) {
	b := newBench(t, 1, "a", "b", "c")
	b.s.learn(0, b.ids["b"], addressAt(mac(2)))
	b.s.learn(0, b.ids["c"], addressAt(mac(3)))
	b.s.Set(Bandwidth, 8e6) // 1 MB/s for both receivers together
	for range 300 {
		b.send("a", frame(mac(2), mac(1), 0, 1000), frame(mac(3), mac(1), 0, 1000))
	}
	b.pass(100 * time.Millisecond)
	if n, m := len(b.take("b")), len(b.take("c")); n != 50 || m != 50 {
		t.Errorf("%d and %d frames of 1000 bytes in 100 ms at 1 MB/s", n, m)
	}
	b.pass(time.Hour)
	b.take("b")
	b.s.learn(b.s.elapsed(), b.ids["b"], addressAt(mac(2)))
	before := b.ids["b"].Counters().Errors
	for range 2000 {
		b.send("a", frame(mac(2), mac(1), 0, 1000))
	}
	b.pass(time.Hour)
	if n := len(b.take("b")); n != 501 {
		t.Errorf("%d frames of a burst fitted in the queue", n)
	}
	if e := b.ids["b"].Counters().Errors - before; e != 1499 {
		t.Errorf("%d errors", e)
	}
}

func TestConnections(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	type end struct {
		conn net.Conn
		err  chan error
	}
	open := func(p *Port) end {
		ours, theirs := net.Pipe()
		e := end{theirs, make(chan error, 1)}
		go func() { e.err <- p.Serve(ours) }()
		return e
	}
	pa, pb := s.AddPort("a"), s.AddPort("b")
	a, b := open(pa), open(pb)
	f := frame(broadcast, mac(1), 42, 60)
	go a.conn.Write(appendFrame(nil, f))
	got := make([]byte, prefixLen+len(f))
	for !pb.IsLive() { // both are on their way up; the frame may have come too early
		time.Sleep(time.Millisecond)
	}
	go a.conn.Write(appendFrame(nil, f))
	if _, err := b.conn.Read(got); err != nil || !bytes.Equal(got[prefixLen:], f) {
		t.Fatalf("%x %v", got, err)
	}
	second := open(pb)
	if err := <-b.err; err == nil || !pb.IsLive() {
		t.Logf("the connection before ended with %v", err)
	}
	b = second
	c := open(s.AddPort("c"))
	go c.conn.Write([]byte{0x7f, 0, 0, 0})
	var bad *LengthError
	if err := <-c.err; !errors.As(err, &bad) {
		t.Errorf("a length that lies: %v", err)
	}
	a.conn.Close()
	if err := <-a.err; err != nil {
		t.Errorf("hang-up: %v", err)
	}
	s.Forget("b")
	if pa.IsLive() {
		t.Error("still live")
	}
	s.RemovePort("b")
	if err := <-b.err; err == nil {
		t.Log("the port's end came first")
	}
	if err := pb.Serve(a.conn); !errors.Is(err, ErrClosed) {
		t.Errorf("a removed port: %v", err)
	}
}

// A guest that does not read loses its own frames and holds up nobody.
func TestGuestThatDoesNotRead(t *testing.T) {
	b := newBench(t, 1, "a", "deaf", "b")
	f := frame(broadcast, mac(1), 0, 1500)
	for range maxQueue/1500 + 100 {
		b.send("a", f)
		if len(b.take("b")) != 1 {
			t.Fatal("held up")
		}
	}
	if e := b.ids["deaf"].Counters().Errors; e == 0 {
		t.Error("nothing was dropped")
	}
}

func BenchmarkSwitch(bm *testing.B) {
	for _, rules := range []int{0, 1000} {
		bm.Run(fmt.Sprintf("rules=%d", rules), func(bm *testing.B) {
			b := newBench(bm, 1, "a", "b")
			b.s.learn(0, b.ids["b"], addressAt(mac(2)))
			for i := range rules {
				b.s.PartitionOneWay("a", fmt.Sprint("x", i))
			}
			frames := make([][]byte, 64)
			for i := range frames {
				frames[i] = frame(mac(2), mac(1), 0, 64)
			}
			live := b.ids["b"].live
			bm.ReportAllocs()
			for bm.Loop() {
				b.send("a", frames...)
				live.pending = live.pending[:0]
			}
			bm.ReportMetric(float64(bm.N)*float64(len(frames))/bm.Elapsed().Seconds(), "frames/s")
		})
	}
}
