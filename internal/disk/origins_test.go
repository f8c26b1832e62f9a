package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"testing"

	"provium/internal/qemu"
)

// digests reads images anew each time.
type digests struct{}

func (digests) ContentDigest(_ context.Context, path string) (string, error) {
	text, err := os.ReadFile(path)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}

// TestOrigins looks at which disks a boot can be cached with, and until when.
func TestOrigins(t *testing.T) {
	env, _ := testEnv(t)
	n := 0
	describe := func(specs ...Spec) (*Shelf, *Origins) {
		t.Helper()
		n++
		s := newShelf(t, env, fmt.Sprint("v", n))
		must(t, s.Declare(t.Context(), specs))
		var devices []qemu.Disk
		for i, spec := range specs {
			devices = append(devices, qemu.Disk{Slot: i + 1, Serial: spec.ID, Socket: fmt.Sprint("socket", n)})
		}
		b := s.Origins(t.Context(), digests{}, devices)
		if b != nil {
			t.Cleanup(b.Close)
		}
		return s, b
	}
	a, same := imageFile(t, env, "a", "same content"), imageFile(t, env, "b", "same content")
	specs := func(path string) []Spec {
		return []Spec{{ID: "s", Scratch: mib}, {ID: "t", Template: path}, {ID: "r", Path: a, ReadOnly: true}}
	}
	s, first := describe(specs(a)...)
	_, second := describe(specs(same)...)
	if !reflect.DeepEqual(first.List(), second.List()) || first.List()[1].Content == "" ||
		first.List()[0].Content != "" {
		t.Errorf("%+v and %+v", first.List(), second.List())
	}
	if !first.Unchanged(t.Context(), digests{}) {
		t.Error("changed at once")
	}
	if s.Origins(t.Context(), digests{}, nil) != nil {
		t.Error("a disk that the machine does not have")
	}
	must(t, s.All()[0].WriteSectors(t.Context(), 0, sector("x")))
	if first.Unchanged(t.Context(), digests{}) || s.Origins(t.Context(), digests{}, make([]qemu.Disk, 3)) != nil {
		t.Error("a write was not seen")
	}
	own := imageFile(t, env, "own", "of its own")
	_, third := describe(Spec{ID: "t", Template: own})
	must(t, os.WriteFile(own, []byte("of others."), 0o600))
	if third.Unchanged(t.Context(), digests{}) {
		t.Error("another content was not seen")
	}
	if _, b := describe(Spec{ID: "p", Path: imageFile(t, env, "p", "in place")}); b != nil {
		t.Errorf("%+v", b.List())
	}
	if _, b := describe(); b == nil || len(b.List()) > 0 {
		t.Error("without disks")
	}
}
