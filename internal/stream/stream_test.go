package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"provium/internal/pattern"
)

// fakeSource brings pieces that a test feeds.
type fakeSource struct {
	pieces chan string // closed at the end of the source
	fail   error       // at the end, instead of io.EOF
	unread chan int    // what Close got
}

func newSource(pieces ...string) *fakeSource {
	s := &fakeSource{pieces: make(chan string, 100), unread: make(chan int, 10)}
	for _, p := range pieces {
		s.pieces <- p
	}
	return s
}

func (s *fakeSource) Next(ctx context.Context) ([]byte, error) {
	select {
	case p, ok := <-s.pieces:
		if ok {
			return []byte(p), nil
		}
		if s.fail != nil {
			return nil, s.fail
		}
		return nil, io.EOF
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *fakeSource) Ended() bool {
	select {
	case p, ok := <-s.pieces:
		if ok {
			s.pieces <- p
		}
		return !ok
	default:
		return false
	}
}

func (s *fakeSource) Close(unread int) { s.unread <- unread }

func open(s Source) *Stream {
	return New(Config{Kind: "tail_file", Detail: `"/f"`, Noun: "stream", Source: s})
}

func wantBytes(t *testing.T, p []byte, err error, want string) {
	t.Helper()
	if string(p) != want || err != nil {
		t.Errorf("%q, %v, want %q", p, err, want)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v, want %q", err, part)
		}
	}
}

func TestNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		src := newSource("one", "two")
		s := open(src)
		for _, want := range []string{"one", "two", ""} { // the last at the limit
			p, err := s.Next(ctx, time.Second)
			wantBytes(t, p, err, want)
		}
		close(src.pieces)
		p, err := s.Next(ctx, time.Hour)
		wantBytes(t, p, err, "")
		if !s.EOF() {
			t.Error("no EOF")
		}
	})
}

func TestALimitOfZeroReturnsWhatIsThere(t *testing.T) {
	s := open(newSource("held here"))
	if _, err := readUntil(t.Context(), s, "expect", "held", time.Second); err != nil {
		t.Fatal(err)
	}
	if s.Held() != 5 {
		t.Errorf("%d bytes are held back", s.Held())
	}
	p, err := s.Next(t.Context(), 0)
	wantBytes(t, p, err, " here")
}

func TestReadUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		src := newSource("boot: lo", "gin: ro", "ot# rest")
		s := open(src)
		p, err := readUntil(ctx, s, "expect", "login: ", time.Second) // over the border of pieces
		wantBytes(t, p, err, "boot: login: ")
		p, err = readUntil(ctx, s, "expect", "# ", time.Second)
		wantBytes(t, p, err, "root# ")
		_, err = readUntil(ctx, s, "expect", "never", time.Second)
		wantError(t, err, "expect timed out waiting for `never`; what arrived ends with:\nrest")
		src.pieces <- " of it"
		close(src.pieces)
		_, err = readUntil(ctx, s, "expect", "never", time.Second)
		wantError(t, err, "stream EOF while waiting for `never`; what arrived ends with:\nrest of it")
		if s.EOF() {
			t.Error("EOF in front of bytes that are held back")
		}
		all, err := s.Drain(ctx, time.Second)
		if len(all) != 1 || string(all[0]) != "rest of it" || err != nil {
			t.Errorf("%q, %v", all, err)
		}
		_, err = readUntil(ctx, s, "expect", "never", time.Second)
		wantError(t, err, "; nothing arrived")
	})
}

func TestReadUntilLua(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := pattern.Lua("job (%d+) (%l+)\n")
		if err != nil {
			t.Fatal(err)
		}
		s := open(newSource("x job 1", "2 done", "\nrest"))
		found, err := s.ReadUntil(t.Context(), "expect", p, time.Second)
		if err != nil || string(found.All) != "x job 12 done\n" || string(found.Text) != "job 12 done\n" ||
			string(found.Captures[1].Text) != "done" {
			t.Errorf("%+v, %v", found, err)
		}
		_, err = s.ReadUntil(t.Context(), "expect", p, time.Second)
		wantError(t, err, "expect timed out waiting for `job (%d+) (%l+)\n`; what arrived ends with:\nrest")
		got, err := s.Next(t.Context(), 0)
		wantBytes(t, got, err, "rest")
	})
}

// TestReadUntilSlow ends at its limit although the pattern is still being compared.
func TestReadUntilSlow(t *testing.T) {
	p, err := pattern.Lua(strings.Repeat(".-", 20) + "x")
	if err != nil {
		t.Fatal(err)
	}
	s := open(newSource())
	s.held = []byte(strings.Repeat("a", 1000)) // it has arrived
	_, err = s.ReadUntil(t.Context(), "expect", p, time.Millisecond)
	wantError(t, err, "expect timed out waiting for `.-.-", "x`: the pattern has too many ways to match; what arrived")
}

func TestSearchHasABound(t *testing.T) {
	s := open(newSource())
	s.held = make([]byte, maxHeld+1)
	_, err := readUntil(t.Context(), s, "expect", "x", time.Second)
	wantError(t, err, "no `x` in 268435457 bytes")
}

func TestDrainKeepsWhatCameBeforeAFailure(t *testing.T) {
	src := newSource("a", "b")
	src.fail = errors.New("disk on fire")
	close(src.pieces)
	s := open(src)
	all, err := s.Drain(t.Context(), time.Second)
	if fmt.Sprintf("%s", all) != "[a b]" || err != nil {
		t.Errorf("%s, %v", all, err)
	}
	_, err = s.Drain(t.Context(), time.Second)
	wantError(t, err, "disk on fire")
	_, err = s.Next(t.Context(), time.Second)
	wantError(t, err, "disk on fire")
	_, err = readUntil(t.Context(), s, "expect", "x", time.Second)
	wantError(t, err, "disk on fire")
}

func TestDrainFrom(t *testing.T) {
	src := newSource("head body", "tail")
	close(src.pieces)
	s := open(src)
	var at []Position
	refuse := errors.New("refused")
	check := func(p Position) error { at = append(at, p); return refuse }
	if _, err := s.DrainFrom(t.Context(), time.Second, check); err != refuse {
		t.Error(err)
	}
	if _, err := readUntil(t.Context(), s, "expect", "head", time.Second); err != nil {
		t.Error(err)
	}
	if _, err := s.DrainFrom(t.Context(), time.Second, check); err != refuse {
		t.Error(err)
	}
	if want := (Position{4, true}); at[0] != (Position{}) || at[1] != want {
		t.Errorf("%+v", at)
	}
	refuse = nil
	all, err := s.DrainFrom(t.Context(), time.Second, check)
	if fmt.Sprintf("%s", all) != "[ body tail]" || err != nil {
		t.Errorf("%s, %v", all, err)
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	cause := errors.New("test over")
	synctest.Test(t, func(t *testing.T) {
		s := open(newSource())
		for name, call := range map[string]func(context.Context) error{
			"next":  func(ctx context.Context) error { _, err := s.Next(ctx, time.Hour); return err },
			"drain": func(ctx context.Context) error { _, err := s.Drain(ctx, time.Hour); return err },
			"read_until": func(ctx context.Context) error {
				_, err := readUntil(ctx, s, "expect", "x", time.Hour)
				return err
			},
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(cause) })
			if err := call(ctx); err != cause {
				t.Errorf("%s: %v", name, err)
			}
			cancel(nil)
		}
	})
}

func TestCallsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		s := open(src)
		var waiting sync.WaitGroup
		waiting.Go(func() {
			p, err := s.Next(t.Context(), time.Minute)
			wantBytes(t, p, err, "late")
		})
		synctest.Wait()
		p, err := s.Next(t.Context(), time.Second)
		wantBytes(t, p, err, "")
		all, err := s.Drain(t.Context(), time.Second)
		if all != nil || err != nil {
			t.Errorf("%q, %v", all, err)
		}
		_, err = readUntil(t.Context(), s, "expect", "x", time.Second)
		wantError(t, err, "expect timed out waiting for `x`; nothing arrived")
		waiting.Go(func() {
			p, err := s.Next(t.Context(), time.Minute)
			wantBytes(t, p, err, "second")
		})
		synctest.Wait()
		src.pieces <- "late"
		src.pieces <- "second"
		waiting.Wait()
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("a match and more")
		closed := 0
		s := New(Config{Kind: "console_read", Detail: "vm1", Noun: "console", Source: src, Closed: func() { closed++ }})
		if _, err := readUntil(t.Context(), s, "expect", "match", time.Second); err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		for range 3 { // at once: the source learns of the unread bytes once
			calls.Go(s.Close)
		}
		calls.Wait()
		if n := <-src.unread; n != len(" and more") || len(src.unread) != 0 || closed != 1 {
			t.Errorf("%d unread bytes, %d further calls, closed %d times", n, len(src.unread), closed)
		}
		if !s.EOF() {
			t.Error("a closed stream is not at its end")
		}
		p, err := s.Next(t.Context(), time.Second)
		wantBytes(t, p, err, "")
		_, err = readUntil(t.Context(), s, "expect", "x", time.Second)
		wantError(t, err, "console closed")
	})
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(newSource())
		var calls sync.WaitGroup
		calls.Go(func() {
			p, err := s.Next(t.Context(), time.Hour)
			wantBytes(t, p, err, "")
		})
		synctest.Wait()
		s.Close()
		calls.Wait()

		s = open(newSource())
		calls.Go(func() {
			_, err := readUntil(t.Context(), s, "expect", "x", time.Hour)
			wantError(t, err, "stream closed")
		})
		synctest.Wait()
		s.Close()
		calls.Wait()
	})
}

func TestString(t *testing.T) {
	src := newSource()
	for want, cfg := range map[string]Config{
		`fd_stream(3)`: {Kind: "fd_stream", Detail: "3"},
		`tail_file("/f") at a.test.lua:12 (test ` + "`t`)": {Kind: "tail_file", Detail: `"/f"`, Source: src,
			Site: Site{File: "a.test.lua", Line: 12, Test: "t"}},
	} {
		s := New(cfg)
		if s.String() != want || s.Kind() != cfg.Kind || s.Site() != cfg.Site || s.Source() != cfg.Source {
			t.Errorf("%s, want %s", s, want)
		}
	}
}

// readUntil waits for a plain text.
func readUntil(ctx context.Context, s *Stream, op, text string, limit time.Duration) ([]byte, error) {
	found, err := s.ReadUntil(ctx, op, pattern.Text(text), limit)
	if err != nil {
		return nil, err
	}
	return found.All, nil
}
