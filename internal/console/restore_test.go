package console

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	newLog := func(name string) *Log {
		l, err := CreateLog(filepath.Join(dir, name), LogConfig{MaxBytes: 64})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	text := func(l *Log) string {
		b, err := l.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	none, cancel := context.WithCancel(context.Background())
	cancel()
	from, to := newLog("a"), newLog("b")
	from.Write([]byte("one two three"))
	if err := expect(none, from, "one"); err != nil {
		t.Fatal(err)
	}
	to.Write([]byte("something longer that was there before"))
	to.End()
	content, search, err := from.Content()
	if err != nil || search != 3 {
		t.Fatal(search, err)
	}
	if err := to.Replace(content, search); err != nil {
		t.Fatal(err)
	}
	if text(to) != "one two three" {
		t.Errorf("%q", text(to))
	}
	if err := expect(none, to, "one"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	to.Write([]byte(" four"))
	if err := expect(none, to, "three four"); err != nil {
		t.Error(err)
	}

	// A log that was cut: what stands behind the match stays behind it.
	for range 20 {
		from.Write([]byte("0123456789"))
	}
	from.MarkBoot()
	from.Write([]byte("fresh"))
	content, search, err = from.Content()
	if err != nil || string(content[search:]) != "fresh" {
		t.Error(search, err)
	}
	if err := to.Replace(content, search); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(text(to), "fresh") {
		t.Errorf("%q", text(to))
	}
	if err := expect(none, to, "fresh"); err != nil {
		t.Error(err)
	}
	if err := to.Replace(nil, 99); err != nil || text(to) != "" || to.Len() != 0 {
		t.Error(err)
	}
}
