package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"provium/internal/pattern"
)

func newLog(t testing.TB, limit int64) (*Log, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "console.log")
	l, err := CreateLog(path, LogConfig{MaxBytes: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, path
}

func write(t testing.TB, l *Log, s string) {
	t.Helper()
	if n, err := l.Write([]byte(s)); n != len(s) || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
}

func all(t testing.TB, l *Log) string {
	t.Helper()
	b, err := l.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLogUncut(t *testing.T) {
	l, _ := newLog(t, 0)
	if all(t, l) != "" || l.Len() != 0 {
		t.Error("not empty")
	}
	write(t, l, "one\n")
	write(t, l, "two\n")
	if got := all(t, l); got != "one\ntwo\n" || l.Len() != 8 {
		t.Errorf("%q, %d", got, l.Len())
	}
	for n, want := range map[int]string{0: "", 3: "wo\n", 8: "one\ntwo\n", 100: "one\ntwo\n", -1: ""} {
		if got, err := l.Tail(n); err != nil || string(got) != want {
			t.Errorf("tail %d: %q, %v", n, got, err)
		}
	}
}

// The log of every length, written in every way, is head, mark and ring.
func TestLogCut(t *testing.T) {
	const limit, head = 64, 16
	for _, chunk := range []int{1, 7, 16, 50, 300} {
		l, path := newLog(t, limit)
		var written strings.Builder
		for i := 0; written.Len() < 400; i++ {
			s := strings.Repeat(string(rune('a'+i%26)), chunk)
			write(t, l, s)
			written.WriteString(s)
			w := written.String()
			want := w
			if cut := len(w) - limit; cut > 0 {
				want = w[:head] + fmt.Sprintf("\n[... %d bytes of console output cut ...]\n", cut) + w[head+cut:]
			}
			if got := all(t, l); got != want {
				t.Fatalf("chunk %d, %d bytes: got %q, want %q", chunk, len(w), got, want)
			}
			tail, err := l.Tail(10)
			if err != nil || string(tail) != w[max(0, len(w)-10):] {
				t.Fatalf("tail %q, %v", tail, err)
			}
			if fi, err := os.Stat(path); err != nil || fi.Size() > limit {
				t.Fatalf("file %v, %v", fi.Size(), err)
			}
			if tail, err = l.Tail(1000); err != nil || len(w) > limit && string(tail) != w[len(w)-48:] {
				t.Fatalf("whole tail %q, %v", tail, err)
			}
		}
	}
}

func TestLogWait(t *testing.T) {
	l, _ := newLog(t, 0)
	write(t, l, "x")
	if n, err := l.Wait(context.Background(), 0); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	grown := make(chan error)
	go func() {
		n, err := l.Wait(context.Background(), 1)
		if n != 2 {
			t.Errorf("length %d", n)
		}
		grown <- err
	}()
	write(t, l, "y")
	if err := <-grown; err != nil {
		t.Error(err)
	}

	why := errors.New("deadline of the test")
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { _, err := l.Wait(ctx, 1000); grown <- err }()
	cancel(why)
	if err := <-grown; err != why {
		t.Error(err)
	}

	go func() { _, err := l.Wait(context.Background(), 2); grown <- err }()
	l.End()
	if err := <-grown; err != ErrEnded {
		t.Error(err)
	}
}

func TestLogExpectMoves(t *testing.T) {
	l, _ := newLog(t, 0)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	write(t, l, "login: login: ")
	for i, want := range []error{nil, nil, context.Canceled} {
		if err := expect(ctx, l, "login: "); err != want {
			t.Errorf("%d: %v, want %v", i, err, want)
		}
	}
	if err := expect(ctx, l, ""); err != nil {
		t.Errorf("empty pattern: %v", err)
	}
	write(t, l, "log")
	if err := expect(ctx, l, "login: "); err != context.Canceled {
		t.Errorf("%v", err)
	}
	write(t, l, "in: ")
	if err := expect(ctx, l, "login: "); err != nil {
		t.Errorf("across two writes, after a failed try: %v", err)
	}
	write(t, l, "login: ")
	l.MarkBoot()
	if err := expect(ctx, l, "login: "); err != context.Canceled {
		t.Errorf("matched bytes from before the boot: %v", err)
	}
	if got := all(t, l); strings.Count(got, "login: ") != 4 {
		t.Errorf("the log itself stays: %q", got)
	}
	l.End()
	if err := expect(context.Background(), l, "login: "); err != ErrEnded {
		t.Errorf("%v", err)
	}
	l.MarkBoot()
	write(t, l, "login: ")
	if err := expect(context.Background(), l, "login: "); err != nil {
		t.Errorf("after a power cycle: %v", err)
	}
}

// TestLogExpectAcrossReboot has the guest reboot by itself, which moves nothing.
func TestLogExpectAcrossReboot(t *testing.T) {
	l, _ := newLog(t, 0)
	write(t, l, "going down\n")
	l.MarkReboot()
	if got := l.BootStart(l.Boot()); got != 11 {
		t.Errorf("the boot begins at %d", got)
	}
	write(t, l, "coming up\n")
	for _, want := range []string{"going down", "coming up"} {
		if err := expect(context.Background(), l, want); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestLogExpectWaits(t *testing.T) {
	l, _ := newLog(t, 0)
	done := make(chan error)
	go func() { done <- expect(context.Background(), l, "ready") }()
	for _, s := range []string{"re", "ad", "yy", "r", "eady"} {
		write(t, l, s)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLogExpectMarkBootWhileWaiting(t *testing.T) {
	l, _ := newLog(t, 0)
	write(t, l, "rea")
	done := make(chan error)
	go func() { done <- expect(context.Background(), l, "ready") }()
	l.MarkBoot()
	write(t, l, "dy")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := expect(ctx, l, "ready"); err != context.Canceled {
		t.Errorf("matched across a boot: %v", err)
	}
	l.End()
	if err := <-done; err != ErrEnded {
		t.Error(err)
	}
}

func TestLogExpectAcrossCut(t *testing.T) {
	l, _ := newLog(t, 64)
	write(t, l, strings.Repeat("a", 14)+"X1"+strings.Repeat("b", 500)+"X2")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, p := range []string{"X1", "X2"} {
		if err := expect(ctx, l, p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	l, _ = newLog(t, 64)
	write(t, l, strings.Repeat("a", 15)+"X"+strings.Repeat("b", 100)+"1"+strings.Repeat("b", 47))
	if err := expect(ctx, l, "X1"); err != context.Canceled {
		t.Errorf("matched across the cut: %v", err)
	}
	if err := expect(ctx, l, "1bb"); err != nil {
		t.Error(err)
	}
}

func TestLogLargeSearch(t *testing.T) {
	l, _ := newLog(t, 0)
	// The needle lies across a step of the search.
	for _, at := range []int{64<<10 - 3, 64 << 10, 128<<10 - 1, 300 << 10} {
		write(t, l, strings.Repeat("n", at)+"needle")
		if err := expect(context.Background(), l, "needle"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogReadersWhileWriting(t *testing.T) {
	l, _ := newLog(t, 4096)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var at int64
			for {
				n, err := l.Wait(ctx, at)
				if err != nil {
					return
				}
				at = n
				if b, err := l.ReadAll(); err != nil || !bytes.HasSuffix(b, []byte("\n")) {
					t.Errorf("%d bytes, %v", len(b), err)
					return
				}
			}
		}()
	}
	for i := range 2000 {
		write(t, l, fmt.Sprintf("line %d\n", i))
	}
	cancel()
	wg.Wait()
	if got := all(t, l); !strings.HasPrefix(got, "line 0\n") || !strings.HasSuffix(got, "line 1999\n") {
		t.Errorf("%.40q", got)
	}
}

func TestLogErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := CreateLog(dir, LogConfig{}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
	l, _ := newLog(t, 0)
	write(t, l, "x")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write([]byte("y")); err == nil || !strings.Contains(err.Error(), "console log write") {
		t.Error(err)
	}
	if _, err := l.ReadAll(); err == nil || !strings.Contains(err.Error(), "console log read") {
		t.Error(err)
	}
}

// expect waits for a plain text.
func expect(ctx context.Context, l *Log, text string) error {
	_, err := l.Expect(ctx, pattern.Text(text))
	return err
}

// TestLogExpectLua has Lua patterns match over the borders of writes and of the parts
// that are searched at once, and see what stands before them.
func TestLogExpectLua(t *testing.T) {
	l, _ := newLog(t, 0)
	find := func(text, want string) {
		t.Helper()
		p, err := pattern.Lua(text)
		if err != nil {
			t.Fatal(err)
		}
		m, err := l.Expect(context.Background(), p)
		if err != nil || string(m.Text) != want {
			t.Fatalf("%s: %+v, %v", text, m, err)
		}
	}
	for _, at := range []int{0, 64<<10 - 3, 64 << 10, 200 << 10} {
		write(t, l, strings.Repeat("n", at)+" needle=")
		write(t, l, "42;")
		find("%f[%w]needle=(%d+);", "needle=42;")
	}
	write(t, l, "one")
	find("o", "o")
	write(t, l, " ne")
	find("%f[%w]ne", "ne") // and not the one inside of a word
}

// TestLogExpectSlow has a pattern compared for long: others use the log meanwhile, and
// the search ends with its context.
func TestLogExpectSlow(t *testing.T) {
	l, _ := newLog(t, 0)
	write(t, l, strings.Repeat("a", 1000))
	p, err := pattern.Lua(strings.Repeat(".-", 20) + "x")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error)
	go func() { _, err := l.Expect(ctx, p); done <- err }()
	write(t, l, "b")
	if got := all(t, l); !strings.HasSuffix(got, "b") {
		t.Error("the log cannot be used")
	}
	why := errors.New("the limit")
	cancel(why)
	if err := <-done; !errors.Is(err, pattern.ErrSlow) || !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestLines(t *testing.T) {
	log := "[    0.000000] Linux\r\n\x1b[1;32mOK\x1b[0m a\tb\r\n\r\n\x1b]0;title\x07#\x08 \xc3\xa4\nlogin: "
	want := []string{"[    0.000000] Linux", "OK a\tb", "", "# \xc3\xa4"}
	if got := Lines([]byte(log)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Lines(nil); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
