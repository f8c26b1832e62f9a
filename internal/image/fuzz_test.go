package image

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"provium/internal/image/cpio"
)

// FuzzOverlay checks that what is read from an overlay has an agent and clean names, and
// is the same when it is written and read again.
func FuzzOverlay(f *testing.F) {
	var archive bytes.Buffer
	if err := writeArchive(&archive, []item{fileItem(guestAgent, 0o755, []byte("AGENT")),
		dirItem("etc", 0o755), linkItem("etc/x", "../y")}); err != nil {
		f.Fatal(err)
	}
	f.Add(archive.Bytes())
	f.Add(gzipped(f, archive.Bytes()))
	f.Add(archive.Bytes()[:150])
	dir := f.TempDir() // one for all, which is fast
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func(name string, data []byte) ([]item, error) {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			return readOverlay(path)
		}
		items, err := read("one", data)
		if err != nil {
			return
		}
		agent := false
		for _, it := range items {
			agent = agent || it.Name == guestAgent && it.Type() == cpio.TypeRegular
			if it.Name == "" || it.Name != cleanName(it.Name) {
				t.Errorf("name %q", it.Name)
			}
		}
		if !agent {
			t.Error("there is no agent in it")
		}
		var again bytes.Buffer
		if err := writeArchive(&again, items); err != nil {
			return // not all that can be read can be written
		}
		same, err := read("two", again.Bytes())
		if err != nil || hashItems(same) != hashItems(items) {
			t.Errorf("%+v became %+v, %v", items, same, err)
		}
	})
}

// FuzzInfo checks that the description of a kernel is the same when it is written and read
// again.
func FuzzInfo(f *testing.F) {
	f.Add([]byte(`{"version":"6.1","pvh":true,"inspected":true,"size":7}`))
	f.Add([]byte(`{"size":-1,"reason":"x"}`))
	f.Add([]byte(`{"size":1e3}`))
	dir := f.TempDir() // one for all, which is fast
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, infoFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := readInfo(dir)
		if err != nil {
			return
		}
		before := *v
		if v.Size < 0 {
			t.Errorf("a kernel of %d bytes", v.Size)
		}
		if err := writeInfo(dir, v); err != nil {
			t.Fatal(err)
		}
		if again, err := readInfo(dir); err != nil || !reflect.DeepEqual(*again, before) {
			t.Errorf("%+v became %+v, %v", before, again, err)
		}
		if note := vmlinuxNote(dir); v.Reason == "" && note != v.Version {
			t.Errorf("the note of %+v is %q", before, note)
		}
	})
}
