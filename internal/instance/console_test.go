package instance

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/kernelreport"
	"provium/internal/pattern"
	"provium/internal/stream"
)

func TestFindings(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	m.Print(false, "[    1.000000] kernel BUG at fs/x.c:1!\n")
	m.Print(true, "a line without an end")
	eventually(t, "a finding", func() bool {
		i.SyncConsole()
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.findings) == 1
	})
	m.Print(true, strings.Repeat("x", 3*maxPartial))
	if err := expect(t.Context(), b.cfg.Console, strings.Repeat("x", 3*maxPartial), patience); err != nil {
		t.Error(err)
	}
}

// TestFindingInPieces looks at a title that a look at the console cuts in two, and at one
// whose line does not end.
func TestFindingInPieces(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	seen := func(n int) func() bool {
		return func() bool {
			i.SyncConsole()
			b.mu.Lock()
			defer b.mu.Unlock()
			return len(b.findings) == n
		}
	}
	printed := func(hvc bool, text string) {
		t.Helper()
		before := b.cfg.Console.Len()
		m.Print(hvc, text)
		eventually(t, "the text", func() bool {
			i.SyncConsole()
			return b.cfg.Console.Len() == before+int64(len(text))
		})
	}
	printed(false, "[    1.000000] kernel BU")
	printed(true, "another device")
	printed(false, "G at fs/x.c:1!\n")
	eventually(t, "a finding", seen(1))
	printed(false, "[    2.000000] kernel BUG at fs/y.c")
	eventually(t, "a finding in a line without an end", seen(2))
	printed(false, ":1! kernel BUG\n[    3.000000] all is well\n")
	eventually(t, "no finding in the rest of the line", seen(2))
}

func TestIsReporting(t *testing.T) {
	i := &Instance{watch: &watch{detector: kernelreport.NewDetector(kernelreport.Rules{})}}
	if i.IsReporting() {
		t.Error("a report of nothing")
	}
	i.watch.detector.Feed([]byte("[    0.500000] BUG: kernel NULL pointer dereference, address: 0\n"))
	if !i.IsReporting() {
		t.Error("no report")
	}
	if got := i.watch.detector.Flush(); len(got) != 1 || i.IsReporting() {
		t.Errorf("%+v", got)
	}
}

func TestExpect(t *testing.T) {
	b := newBench(t)
	_, m := b.boot()
	c := b.cfg.Console
	m.Print(false, "one two three\n")
	for _, word := range []string{"one", "three"} {
		if err := expect(t.Context(), c, word, patience); err != nil {
			t.Error(err)
		}
	}
	err := expect(t.Context(), c, "one", 10*time.Millisecond)
	if err == nil || err.Error() !=
		"expect timed out waiting for `one` on the console of vm `a`; it ends with:\none two three\n" {
		t.Error(err)
	}
	text, search, err := c.Content()
	if err != nil || string(text) != "one two three\n" || search == 0 || c.Len() != int64(len(text)) {
		t.Errorf("%q %d %v", text, search, err)
	}
	if err := c.Replace([]byte("of a snapshot\n"), 0); err != nil {
		t.Error(err)
	}
	if all, err := c.ReadAll(); err != nil || string(all) != "of a snapshot\n" || c.Tail(9) != "snapshot\n" {
		t.Errorf("%q %v", all, err)
	}
}

// TestStreamsGoOn has each stream of the console begin where the one before stopped.
func TestStreamsGoOn(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	c := b.cfg.Console
	open := func(others ...*stream.Stream) *stream.Stream {
		return stream.New(stream.Config{Kind: "console_read", Noun: "console", Source: c.NewSource(others)})
	}
	m.Print(false, "first\nsecond\nthird\n")
	one := open()
	if p, err := readUntil(t.Context(), one, "first\n", patience); err != nil || string(p) != "first\n" {
		t.Errorf("%q %v", p, err)
	}
	two := open(one)
	one.Close()
	if p, err := readUntil(t.Context(), two, "second\n", patience); err != nil || string(p) != "second\n" {
		t.Errorf("%q %v", p, err)
	}
	two.Close()
	three := open()
	if p, err := readUntil(t.Context(), three, "third\n", patience); err != nil || string(p) != "third\n" {
		t.Errorf("%q %v", p, err)
	}
	i.End("over")
	if _, err := readUntil(t.Context(), three, "more", patience); err == nil ||
		!strings.Contains(err.Error(), "EOF") {
		t.Error(err)
	}
	if !three.EOF() {
		t.Error("no end")
	}
	three.Close()
	if _, err := c.NewSource(nil).Next(t.Context()); err != io.EOF {
		t.Error(err)
	}
}

func TestWriteConsole(t *testing.T) {
	for name, c := range map[string]struct {
		cmdline string
		hvc     bool
	}{"serial": {"quiet console=ttyS0", false}, "hvc": {"console=ttyS0 console=hvc0,9600 quiet", true}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.cfg.QEMU.Cmdline = c.cmdline
			i, m := b.boot()
			if err := i.WriteConsole(t.Context(), []byte("input"), patience); err != nil {
				t.Error(err)
			}
			eventually(t, "the guest has read it", func() bool { return m.ConsoleInput(c.hvc) == "input" })
			release := m.HoldConsole(c.hvc)
			defer release()
			err := i.WriteConsole(t.Context(), make([]byte, 4<<20), 10*time.Millisecond)
			if err == nil || !strings.Contains(err.Error(), "console:write timed out after 10ms: the guest took ") {
				t.Error(err)
			}
			i.End("over")
			if err := i.WriteConsole(t.Context(), []byte("input"), patience); err == nil {
				t.Error("written to a console that is gone")
			}
		})
	}
}

// TestNoisyAgent has an agent break the protocol: the link ends, and the guest with it.
func TestNoisyAgent(t *testing.T) {
	b := newBench(t)
	b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentTalksNoise) })
	i, _ := b.start(nil)
	link, err := i.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := link.Ping(t.Context()); err == nil {
		t.Error("answered")
	}
	b.wantDeath(i, "the agent is lost")
}

// expect waits for a plain text.
func expect(ctx context.Context, c *Console, text string, limit time.Duration) error {
	_, err := c.Expect(ctx, pattern.Text(text), limit)
	return err
}

// readUntil waits for a plain text.
func readUntil(ctx context.Context, s *stream.Stream, text string, limit time.Duration) ([]byte, error) {
	found, err := s.ReadUntil(ctx, "read_until", pattern.Text(text), limit)
	if err != nil {
		return nil, err
	}
	return found.All, nil
}
