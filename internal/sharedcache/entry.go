package sharedcache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"provium/internal/jsonerror"
)

// formatVersion is the version of the format of entries.
const formatVersion = 1

// Limits of what is read of a registry, in bytes unless it is said.
const (
	// ChunkSize is the size of a chunk before it is compressed.
	ChunkSize = 1 << 20

	maxManifest = 4 << 20 // as many registries have it
	maxConfig   = 16 << 20
	maxFiles    = 100_000 // number
	maxEntry    = 1 << 40
	maxPacked   = ChunkSize + ChunkSize/16 + 1024 // of a chunk
	maxText     = 4096
)

// Media types of what an entry consists of.
const (
	configType types.MediaType = "application/vnd.provium.cache.entry.v1+json"
	chunkType  types.MediaType = "application/vnd.provium.cache.chunk.v1+zstd"
)

// Kind is the cache that an entry belongs to.
type Kind string

// The kinds.
const (
	Boot    Kind = "boot"
	Fixture Kind = "fixture"
	Image   Kind = "image"
	History Kind = "history"
)

// HistoryKey is the key of the only entry of its kind: what is known of test files.
const HistoryKey = "files"

// Fit is what a machine must have for the snapshots in an entry. The zero value fits all.
type Fit struct {
	Form  string `json:"form,omitempty"` // of snapshots, see snapshot.Form
	Arch  string `json:"arch,omitempty"` // of the host
	QEMU  string `json:"qemu,omitempty"` // version
	Accel string `json:"accel,omitempty"`
	CPU   string `json:"cpu,omitempty"` // model, with that of the host under KVM
}

// Header says what an entry is.
type Header struct {
	Kind Kind   `json:"kind"`
	Key  string `json:"key"`
	Note string `json:"note,omitempty"` // for people
	Size int64  `json:"size"`           // bytes of its files
	Fit  Fit    `json:"fit,omitzero"`
}

// file is one file of an entry. The contents of all regular files are one stream.
type file struct {
	Name string `json:"name"` // with slashes, relative
	Mode uint32 `json:"mode"` // of package fs: type and permissions
	Link string `json:"link,omitempty"`
	At   int64  `json:"at,omitempty"` // in the stream
	Size int64  `json:"size,omitempty"`
}

// chunk is a part of the stream; what no chunk covers is zero. It is the layer of the same
// position.
type chunk struct {
	At     int64  `json:"at"`
	Length int64  `json:"length"`
	Sum    string `json:"sha256"` // before compression
}

// content is the config of the image of an entry.
type content struct {
	Version int     `json:"version"`
	Header  Header  `json:"header"`
	Files   []file  `json:"files"`
	Chunks  []chunk `json:"chunks"`
}

// headerAnnotation has the header in the manifest, so that one small request shows it.
const headerAnnotation = "dev.provium.cache.header"

// errForeign is returned for what this program has not written, or another version of it.
var errForeign = errors.New("it is no entry of a cache that this version of Provium reads")

// decodeManifest verifies a manifest and returns the header in it.
func decodeManifest(text []byte) (*v1.Manifest, Header, error) {
	var h Header
	if len(text) > maxManifest {
		return nil, h, fmt.Errorf("its manifest has %d bytes", len(text))
	}
	m, err := v1.ParseManifest(bytes.NewReader(text))
	if err != nil {
		return nil, h, fmt.Errorf("its manifest cannot be read: %w", err)
	}
	if m.Config.MediaType != configType {
		return nil, h, errForeign
	}
	if m.Config.Size < 0 || m.Config.Size > maxConfig {
		return nil, h, fmt.Errorf("its description has %d bytes", m.Config.Size)
	}
	for _, l := range m.Layers {
		if l.MediaType != chunkType || l.Size <= 0 || l.Size > maxPacked {
			return nil, h, fmt.Errorf("a chunk is a `%s` of %d bytes", l.MediaType, l.Size)
		}
	}
	if err := json.Unmarshal([]byte(m.Annotations[headerAnnotation]), &h); err != nil {
		return nil, h, fmt.Errorf("its header cannot be read: %w", jsonerror.Plain(err))
	}
	return m, h, h.check()
}

func (h *Header) check() error {
	switch h.Kind {
	case Boot, Fixture, Image, History:
	default:
		return fmt.Errorf("it is of the kind `%.20s`", h.Kind)
	}
	for _, text := range []string{h.Key, h.Note, h.Fit.Form, h.Fit.Arch, h.Fit.QEMU, h.Fit.Accel, h.Fit.CPU} {
		if len(text) > maxText {
			return fmt.Errorf("a text of its header has %d bytes", len(text))
		}
	}
	// Keys of boots and fixtures become file names.
	asFile := h.Kind == Boot || h.Kind == Fixture
	if h.Key == "" || asFile && !isKey(h.Key) || h.Kind == History && h.Key != HistoryKey {
		return fmt.Errorf("its key is `%.80s`", h.Key)
	}
	if h.Size < 0 || h.Size > maxEntry {
		return fmt.Errorf("it has %d bytes", h.Size)
	}
	return nil
}

// isKey reports whether s is made of hex digits and dashes.
func isKey(s string) bool { return s[0] != '-' && strings.Trim(s, "0123456789abcdef-") == "" }

// decodeContent verifies the config of an image with so many layers.
func decodeContent(text []byte, layers int) (*content, error) {
	var c content
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("its description cannot be read: %w", jsonerror.Plain(err))
	}
	if c.Version != formatVersion {
		return nil, errForeign
	}
	if err := c.Header.check(); err != nil {
		return nil, err
	}
	if len(c.Chunks) != layers || len(c.Files) > maxFiles {
		return nil, fmt.Errorf("it has %d files, %d chunks and %d layers", len(c.Files), len(c.Chunks), layers)
	}
	end, err := checkFiles(c.Files)
	if err != nil {
		return nil, err
	}
	next := int64(0)
	for _, k := range c.Chunks {
		if k.At < next || k.Length <= 0 || k.Length > ChunkSize || k.At > end-k.Length {
			return nil, fmt.Errorf("a chunk has %d bytes at %d", k.Length, k.At)
		}
		if sum, err := hex.DecodeString(k.Sum); err != nil || len(sum) != sha256.Size {
			return nil, errors.New("a chunk has no digest")
		}
		next = k.At + k.Length
	}
	return &c, nil
}

// checkFiles verifies names and places of files, which must be in the order of the stream,
// directories before what is in them. It returns the end of the stream.
func checkFiles(files []file) (end int64, err error) {
	dirs := map[string]bool{".": true}
	seen := map[string]bool{".": true}
	for _, f := range files {
		if len(f.Name) > maxText || !filepath.IsLocal(f.Name) || path.Clean(f.Name) != f.Name ||
			strings.ContainsRune(f.Name, 0) || seen[f.Name] || !dirs[path.Dir(f.Name)] {
			return 0, fmt.Errorf("a file has the name `%.80s`", f.Name)
		}
		seen[f.Name] = true
		switch mode := fs.FileMode(f.Mode); mode.Type() {
		case fs.ModeDir:
			dirs[f.Name] = true
		case fs.ModeSymlink:
			if f.Link == "" || len(f.Link) > maxText || strings.ContainsRune(f.Link, 0) {
				return 0, fmt.Errorf("the link `%.80s` leads nowhere", f.Name)
			}
		case 0:
			if f.At < end || f.Size < 0 || f.At > maxEntry || f.Size > maxEntry-f.At {
				return 0, fmt.Errorf("the file `%.80s` has %d bytes at %d", f.Name, f.Size, f.At)
			}
			end = f.At + f.Size
		default:
			return 0, fmt.Errorf("`%.80s` is neither a file nor a directory nor a link", f.Name)
		}
	}
	return end, nil
}

// tag is the tag of an entry, without the prefix of its cache. Keys of images are too long for
// tags, and have other characters.
func tag(kind Kind, key string) string {
	if kind == Image {
		sum := sha256.Sum256([]byte(key))
		key = hex.EncodeToString(sum[:20])
	}
	return string(kind) + "." + key
}

// Differs returns why snapshots that need f do not fit the machine here, "" if they do.
// Fields of here that are not known are not compared.
func (f Fit) Differs(here Fit) string {
	var out []string
	for _, d := range []struct{ what, theirs, ours string }{
		{"format of snapshots", f.Form, here.Form}, {"architecture", f.Arch, here.Arch},
		{"QEMU", f.QEMU, here.QEMU}, {"accelerator", f.Accel, here.Accel},
	} {
		if d.theirs != "" && d.ours != "" && d.theirs != d.ours {
			out = append(out, fmt.Sprintf("%s %s, here %s", d.what, d.theirs, d.ours))
		}
	}
	// A model that QEMU emulates is the same everywhere; one of the host is not.
	_, theirs, ofHost := strings.Cut(f.CPU, " of ")
	if ofHost && here.CPU != "" && theirs != here.CPU {
		out = append(out, fmt.Sprintf("CPU %s, here %s", theirs, here.CPU))
	}
	return strings.Join(slices.Compact(out), "; ")
}
