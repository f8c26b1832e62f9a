package sharedcache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// hostile writes an OCI layout with one entry by hand, as somebody may who can write to a shared cache.
type hostile struct {
	t        *testing.T
	dir      string
	content  content
	manifest v1.Manifest
}

func newHostile(t *testing.T) *hostile {
	h := &hostile{t: t, dir: t.TempDir()}
	h.content = content{Version: formatVersion, Header: Header{Kind: Boot, Key: "ab"}}
	h.manifest = v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	return h
}

func (h *hostile) blob(kind types.MediaType, text []byte) v1.Descriptor {
	h.t.Helper()
	sum := sha256.Sum256(text)
	d := v1.Descriptor{MediaType: kind, Size: int64(len(text)), Digest: v1.Hash{Algorithm: "sha256",
		Hex: hex.EncodeToString(sum[:])}}
	must(h.t, os.MkdirAll(h.dir+"/blobs/sha256", 0o755))
	must(h.t, os.WriteFile(filepath.Join(h.dir, "blobs/sha256", d.Digest.Hex), text, 0o644))
	return d
}

// chunk adds a chunk whose stored form is z and whose content is said to be b.
func (h *hostile) chunk(z, b []byte, at, length int64) {
	sum := sha256.Sum256(b)
	h.manifest.Layers = append(h.manifest.Layers, h.blob(chunkType, z))
	h.content.Chunks = append(h.content.Chunks, chunk{at, length, hex.EncodeToString(sum[:])})
}

// pull writes the entry and brings it to an empty directory.
func (h *hostile) pull() (into string, err error) {
	h.t.Helper()
	text := func(v any) []byte {
		b, err := json.Marshal(v)
		must(h.t, err)
		return b
	}
	if h.manifest.Config.Size == 0 {
		h.manifest.Config = h.blob(configType, text(h.content))
	}
	h.manifest.Annotations = map[string]string{headerAnnotation: string(text(h.content.Header))}
	d := h.blob(types.OCIManifestSchema1, text(h.manifest))
	d.Annotations = map[string]string{refAnnotation: "boot.ab"}
	must(h.t, os.WriteFile(h.dir+"/oci-layout", []byte(layoutText), 0o644))
	must(h.t, os.WriteFile(h.dir+"/index.json", text(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{d}}), 0o644))
	c := open(h.t, "oci:"+h.dir, 0)
	into = h.t.TempDir()
	var bad error
	all, err := c.List(h.t.Context(), func(e error) { bad = e })
	if must(h.t, err); bad != nil {
		return into, bad
	}
	if len(all) != 1 {
		h.t.Fatal("the entry is not listed")
	}
	return into, c.Pull(h.t.Context(), &all[0], into)
}

// TestHostileEntries brings entries that somebody has made up: each is refused, and nothing is written beside its
// directory.
func TestHostileEntries(t *testing.T) {
	enc, err := encoder()
	must(t, err)
	regular := func(name string, size int64) file { return file{Name: name, Mode: 0o644, Size: size} }
	link := func(name, to string) file { return file{Name: name, Mode: uint32(fs.ModeSymlink), Link: to} }
	for name, c := range map[string]struct {
		change func(h *hostile)
		want   string
	}{
		"a path upwards":    {func(h *hostile) { h.content.Files = []file{regular("../x", 1)} }, "has the name `../x`"},
		"an absolute path":  {func(h *hostile) { h.content.Files = []file{regular("/x", 1)} }, "has the name `/x`"},
		"a path with a dot": {func(h *hostile) { h.content.Files = []file{regular("a/../../x", 1)} }, "has the name"},
		"below a link": {func(h *hostile) {
			h.content.Files = []file{link("d", "/tmp"), regular("d/x", 1)}
		}, "has the name `d/x`"},
		"in place of a link": {func(h *hostile) {
			h.content.Files = []file{link("d", "/tmp"), regular("d", 1)}
		}, "has the name `d`"},
		"a device": {func(h *hostile) {
			h.content.Files = []file{{Name: "d", Mode: uint32(fs.ModeDevice)}}
		}, "neither a file nor a directory nor a link"},
		"a negative size": {func(h *hostile) { h.content.Files = []file{regular("x", -1)} }, "has -1 bytes"},
		"an endless file": {func(h *hostile) { h.content.Files = []file{regular("x", 1<<62)} }, "has 4611686018"},
		"a chunk beyond the end": {func(h *hostile) {
			h.content.Files = []file{regular("x", 10)}
			h.chunk(enc.EncodeAll([]byte("x"), nil), []byte("x"), 1<<62, 1)
		}, "a chunk has 1 bytes at 4611686018427387904"},
		"a negative chunk": {func(h *hostile) {
			h.content.Files = []file{regular("x", 10)}
			h.chunk(enc.EncodeAll([]byte("x"), nil), []byte("x"), -1, 1)
		}, "a chunk has 1 bytes at -1"},
		"a bomb": {func(h *hostile) {
			h.content.Files = []file{regular("x", ChunkSize)}
			h.chunk(enc.EncodeAll(make([]byte, 1<<30), nil), nil, 0, ChunkSize)
		}, "is damaged"},
		"a bomb that says its size": {func(h *hostile) {
			h.content.Files = []file{regular("x", ChunkSize)}
			// A frame header with 8 bytes of content size.
			h.chunk([]byte("\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\x7f\x01\x00\x00"), nil, 0, ChunkSize)
		}, "is damaged"},
		"many frames": {func(h *hostile) {
			h.content.Files = []file{regular("x", ChunkSize)}
			frame := enc.EncodeAll(make([]byte, ChunkSize), nil)
			var all []byte
			for len(all) < ChunkSize {
				all = append(all, frame...)
			}
			h.chunk(all, nil, 0, ChunkSize)
		}, "is damaged"},
		"too many chunks": {func(h *hostile) {
			layer := h.blob(chunkType, []byte("x"))
			for range 30_000 {
				h.manifest.Layers = append(h.manifest.Layers, layer)
			}
		}, "bytes"},
		"negative sizes": {func(h *hostile) {
			h.manifest.Layers = []v1.Descriptor{h.blob(chunkType, []byte("x"))}
			h.manifest.Layers[0].Size = -5
		}, "of -5 bytes"},
		"a huge description": {func(h *hostile) {
			h.manifest.Config = h.blob(configType, []byte("{}"))
			h.manifest.Config.Size = 1 << 40
		}, "its description has 1099511627776 bytes"},
		"a negative description": {func(h *hostile) {
			h.manifest.Config = h.blob(configType, []byte("{}"))
			h.manifest.Config.Size = -1
		}, "its description has -1 bytes"},
		"a description that is longer than said": {func(h *hostile) {
			h.manifest.Config = h.blob(configType, make([]byte, 1<<20))
			h.manifest.Config.Size = 10
		}, "is damaged"},
		"a digest that is a path": {func(h *hostile) {
			h.manifest.Config = h.blob(configType, []byte("{}"))
			h.manifest.Config.Digest = v1.Hash{Algorithm: "sha256", Hex: "../../index.json"}
		}, "cannot be read"},
		"more chunks than layers": {func(h *hostile) {
			h.content.Chunks = []chunk{{0, 1, strings.Repeat("a", 64)}}
		}, "1 chunks and 0 layers"},
		"a wrong key": {func(h *hostile) { h.content.Header.Key = "../ab" }, "its key is `../ab`"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			c.change(h)
			into, err := h.pull()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			if left, err := filepath.Glob(filepath.Dir(into) + "/*"); err != nil || len(left) > 3 {
				t.Error(left, err)
			}
		})
	}
	h := newHostile(t)
	h.content.Files = []file{regular("x", 4)}
	h.chunk(enc.EncodeAll([]byte("text"), nil), []byte("text"), 0, 4)
	if into, err := h.pull(); err != nil {
		t.Error("a good one: ", err)
	} else if text, err := os.ReadFile(into + "/x"); string(text) != "text" {
		t.Error(text, err)
	}
}
