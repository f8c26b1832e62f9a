package lab

import "testing"

func FuzzDirectoryEntry(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x18\x00\x08name\x00"))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			_, rest, err := directoryEntry(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			b = rest
		}
	})
}

func TestGeneration(t *testing.T) {
	a := &generation{}
	a.note(5)
	a.note(3)
	restored := &generation{base: a, upTo: a.last.Load()}
	other := &generation{}
	for _, c := range []struct {
		now, of *generation
		handle  uint64
		want    bool
	}{{a, a, 9, true}, {restored, a, 5, true}, {restored, a, 6, false}, {restored, restored, 6, true}, {other, a, 1, false}, {a, restored, 1, false}} {
		if got := c.now.holds(c.of, c.handle); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
