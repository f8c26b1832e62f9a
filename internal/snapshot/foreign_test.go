package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestOtherVersions has an entry of a later version, whose manifest has one more field: it is not called
// damaged, and stays for those that can read it.
func TestOtherVersions(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	for _, key := range []string{"ours", "later"} {
		w, err := c.Create(key, PageSize)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(&Manifest{}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(c.Path("later"))
	if err != nil {
		t.Fatal(err)
	}
	old, err := decodeTrailer(b[len(b)-trailerSize:], int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	body, manifest := b[:old.manifestAt], b[old.manifestAt:len(b)-trailerSize]
	manifest = bytes.Replace(manifest, []byte("{"), []byte(`{"since":"later",`), 1)
	if !json.Valid(manifest) {
		t.Fatalf("%s", manifest)
	}
	changed := trailer{manifestAt: old.manifestAt, manifestLen: uint32(len(manifest)), sum: sha256.Sum256(manifest)}
	if err := os.WriteFile(c.Path("later"), append(append(bytes.Clone(body), manifest...), changed.encode()...),
		0o600); err != nil {
		t.Fatal(err)
	}
	_, err = c.Open(t.Context(), "later", time.Now())
	if !IsForeign(err) || strings.Contains(err.Error(), "damage") || !strings.Contains(err.Error(), "since") {
		t.Error(err)
	}
	for _, key := range []string{"ours", "later"} {
		if err := c.Check(t.Context(), key); err != nil || !c.Has(key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	all, err := c.List()
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	for _, e := range all {
		if e.Foreign != (e.Key == "later") || (e.Manifest == nil) != e.Foreign {
			t.Errorf("%+v", e)
		}
	}
	// A bit that it has lost is damage.
	b[old.manifestAt+1] ^= 1
	if err := os.WriteFile(c.Path("later"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(t.Context(), "later"); err == nil || IsForeign(err) || c.Has("later") {
		t.Error(err)
	}
	if _, err := os.Stat(c.Path("later")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestForm is changed by each field that is added to what snapshots have, whose caches are other ones then.
func TestForm(t *testing.T) {
	form := func(of reflect.Type) string {
		var b strings.Builder
		describe(&b, of)
		return b.String()
	}
	type inner struct {
		A int `json:"a"`
	}
	type more struct {
		A int `json:"a"`
		B int `json:"b,omitempty"`
	}
	seen := map[string]bool{}
	for _, of := range []reflect.Type{reflect.TypeFor[struct{ X inner }](), reflect.TypeFor[struct{ X []inner }](),
		reflect.TypeFor[struct{ X more }](), reflect.TypeFor[struct{ X map[string]*more }]()} {
		seen[form(of)] = true
	}
	if len(seen) != 4 {
		t.Errorf("%v", seen)
	}
	if got := form(reflect.TypeFor[Manifest]()); !strings.Contains(got, `"kernel,omitempty" string`) ||
		!strings.Contains(got, `"sha256,omitempty"`) {
		t.Error(got)
	}
}
