package templates

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"provium/internal/snapshot"
)

type closing struct{ closed int }

func (c *closing) Close() { c.closed++ }

// ids returns the identities of n files.
func ids(t *testing.T, n int) (out []snapshot.FileID) {
	t.Helper()
	for i := range n {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(fmt.Sprint(i)), 0o600); err != nil {
			t.Fatal(err)
		}
		id, err := snapshot.Identify(path)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, id)
	}
	return out
}

func TestStore(t *testing.T) {
	var s Store[*closing]
	id := ids(t, limit+2)
	all := make([]*closing, len(id))
	for i := range limit {
		all[i] = &closing{}
		s.Put(id[i], all[i], false)
	}
	s.Put(id[limit], nil, false)
	if s.Get(id[0]) != all[0] || s.Get(id[limit]) != nil {
		t.Error("it does not return what was put")
	}
	all[limit] = &closing{}
	s.Put(id[limit], all[limit], false)
	if s.Get(id[1]) != nil || all[1].closed != 1 || s.Get(id[0]) != all[0] {
		t.Error("the one that was used first is not the one that went")
	}
	again := &closing{}
	s.Put(id[0], again, false)
	s.Drop(id[2])
	s.Drop(id[2])
	if all[0].closed != 1 || s.Get(id[0]) != again || all[2].closed != 1 || s.Get(id[2]) != nil {
		t.Error("what was replaced or dropped is still there")
	}
	s.Close()
	late := &closing{}
	s.Put(id[limit+1], late, false)
	for i, c := range append(all[:limit+1], again, late) {
		if c.closed != 1 {
			t.Errorf("template %d was closed %d times", i, c.closed)
		}
	}
	if s.Get(id[limit+1]) != nil {
		t.Error("a closed store keeps templates")
	}
}
