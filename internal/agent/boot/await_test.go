package boot

import (
	"slices"
	"strings"
	"testing"
)

// What is waited for is said after two seconds and when something else is there; after the limit, of which
// devices that come begin a new one, the wait ends.
func TestWait(t *testing.T) {
	there := "block devices: none"
	var said []string
	w := wait{what: "root=/dev/vdz", limit: 4, there: func() string { return there },
		say: func(err error) { said = append(said, err.Error()) }}
	count := func(n int) (err error) {
		for range n {
			err = w.second()
		}
		return err
	}
	if err := count(3); err != nil {
		t.Error(err)
	}
	there = "block devices: vda"
	w.came()
	if err := count(3); err != nil {
		t.Error(err)
	}
	want := []string{"waiting for root=/dev/vdz; block devices: none", "waiting for root=/dev/vdz; block devices: vda"}
	if !slices.Equal(said, want) {
		t.Errorf("%q", said)
	}
	err := count(1)
	const late = "root=/dev/vdz has not appeared for 4 s in which no device came; block devices: vda"
	if err == nil || err.Error() != late {
		t.Error(err)
	}
	w.limit = 0
	if err := count(100); err != nil || len(said) != 2 {
		t.Errorf("%v, %q", err, said)
	}
}

func TestWaitForDevices(t *testing.T) {
	s, err := Open()
	if err != nil {
		t.Skip(err)
	}
	if text := s.blockDevices(); !strings.HasPrefix(text, "block devices: ") {
		t.Error(text)
	}
	if text := s.classMembers("class/nothing", "x"); text != "x: none" {
		t.Error(text)
	}
	w := wait{what: "it", limit: 1, there: func() string { return "nothing" }}
	n := 0
	if err := w.until(func() (bool, error) { n++; return n == 1, nil }); err != nil || n != 1 {
		t.Error(err, n)
	}
}
