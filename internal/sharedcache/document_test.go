package sharedcache

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestDocument stores a file and brings it by its digest, also when the tag has another one since.
func TestDocument(t *testing.T) {
	withEachRegistry(t, func(t *testing.T, ref string, _ *atomic.Pointer[around]) {
		dir := t.TempDir()
		for _, ref := range []string{"docker://" + ref, "oci:layout:ci", "oci:" + dir + "/other"} {
			named, err := PutDocument(t.Context(), ref, dir, "text/x", []byte("first"), 0)
			must(t, err)
			_, err = PutDocument(t.Context(), ref, dir, "text/x", []byte("second"), 0)
			must(t, err)
			text, err := GetDocument(t.Context(), named, dir, "text/x", 5, 0)
			if must(t, err); string(text) != "first" {
				t.Errorf("%s is %q", named, text)
			}
			unknown := named[:len(named)-4] + "0000"
			for what, want := range map[string]func() error{
				"digest": func() error { _, err := GetDocument(t.Context(), ref, dir, "text/x", 5, 0); return err },
				"something else than `text/y`": func() error {
					_, err := GetDocument(t.Context(), named, dir, "text/y", 5, 0)
					return err
				},
				"5 bytes": func() error { _, err := GetDocument(t.Context(), named, dir, "text/x", 4, 0); return err },
				unknown: func() error {
					_, err := GetDocument(t.Context(), unknown, dir, "text/x", 5, 0)
					return err
				},
				"give a tag": func() error {
					_, err := PutDocument(t.Context(), named, dir, "text/x", nil, 0)
					return err
				},
			} {
				if err := want(); err == nil || !strings.Contains(err.Error(), what) {
					t.Errorf("%s: %v, want %q", ref, err, what)
				}
			}
		}
	})
}

// TestDamagedDocument changes a byte of a file in a layout.
func TestDamagedDocument(t *testing.T) {
	dir := t.TempDir()
	named, err := PutDocument(t.Context(), "oci:.", dir, "text/x", []byte("first"), 0)
	must(t, err)
	blobs, err := filepath.Glob(dir + "/blobs/sha256/*")
	must(t, err)
	for _, path := range blobs {
		text, err := os.ReadFile(path)
		must(t, err)
		if string(text) == "first" {
			must(t, os.WriteFile(path, []byte("worst"), 0o644))
		}
	}
	_, err = GetDocument(t.Context(), named, dir, "text/x", 5, 0)
	if err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Error(err)
	}
}

func TestReferencesOfDocuments(t *testing.T) {
	for text, want := range map[string]bool{"docker://h/n": true, "oci:d": true, "d.json": false, "/oci:d": false} {
		if IsDocument(text) != want {
			t.Errorf("%q is a reference: %t", text, !want)
		}
	}
	for _, ref := range []string{"oci:", "docker://", "docker://H/UPPER", "oci:@sha256:ab"} {
		_, err := GetDocument(t.Context(), ref, "/", "text/x", 5, 0)
		if err == nil || !strings.Contains(err.Error(), "`"+ref+"`") {
			t.Errorf("%q: %v", ref, err)
		}
	}
}
