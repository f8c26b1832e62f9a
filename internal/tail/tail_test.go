package tail

import "testing"

func TestBuffer(t *testing.T) {
	b := &Buffer{Limit: 4}
	for _, p := range []string{"ab", "cd", "ef", ""} {
		if n, err := b.Write([]byte(p)); n != len(p) || err != nil {
			t.Errorf("%d bytes of %q, %v", n, p, err)
		}
	}
	if got := b.String(); got != "cdef" {
		t.Errorf("it keeps %q", got)
	}
}
