package instance

import "testing"

func TestShare(t *testing.T) {
	for _, early := range []bool{true, false} {
		out := 1
		s := NewShare(func() { out-- })
		if early {
			s.Release()
			if out != 1 {
				t.Error("released before it was final")
			}
			s.Finalize()
		} else {
			s.Finalize()
			s.Release()
		}
		if out != 0 {
			t.Errorf("early %v: %d shares are out", early, out)
		}
	}
}
