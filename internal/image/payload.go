package image

import (
	"crypto/sha256"
	"embed"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// The guest binaries. The build puts them there; a build without them gives a
// binary that says so when it needs one.
//
//go:embed all:payload
var embedded embed.FS

// Names of the files in a payload.
const (
	payloadAgent   = "provium-agent"   // the guest agent, static
	payloadBusybox = "busybox"         // static busybox for the built-in initrd
	payloadApplets = "busybox.applets" // its `--list-full`
)

// errAgentMissing is the text users see from a binary that was built without
// its guest side.
var errAgentMissing = errors.New("guest agent missing: build with \"make build\"")

func embeddedPayload() fs.FS {
	sub, err := fs.Sub(embedded, "payload")
	if err != nil {
		panic(err) // the name is a constant
	}
	return sub
}

// readPayload returns one file of the payload.
func (s *Store) readPayload(name string) ([]byte, error) {
	data, err := fs.ReadFile(s.cfg.Payload, name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		if name == payloadAgent {
			return nil, errAgentMissing
		}
		return nil, fmt.Errorf("%s for the built-in initrd missing: build with \"make build\"", name)
	}
	return data, err
}

// applets returns the applet paths of the payload's busybox, e.g. "bin/sh".
func (s *Store) applets() ([]string, error) {
	text, err := s.readPayload(payloadApplets)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if !fs.ValidPath(line) {
			return nil, fmt.Errorf("bad line %q in %s: expected a path like bin/sh", line, payloadApplets)
		}
		// What stands in the root itself is "linuxrc", a way to start init.
		if strings.Contains(line, "/") {
			out = append(out, line)
		}
	}
	return out, nil
}

// builtin are items that are made of the payload, which does not change: they are read and
// hashed once. They must not be changed.
type builtin struct {
	items   []item
	digest  string        // as of hashItems
	hash    []byte        // its state, for what follows the items
	trailer [trailer]byte // of their archive when it is compressed
}

// builtinOf returns a function that makes items once.
func builtinOf(items func() ([]item, error)) func() (*builtin, error) {
	return sync.OnceValues(func() (*builtin, error) {
		list, err := items()
		if err != nil {
			return nil, err
		}
		b := &builtin{items: slices.Clip(list)}
		h := sha256.New()
		addItems(h, list)
		b.digest = hex.EncodeToString(h.Sum(nil))
		if b.hash, err = h.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
			return nil, err
		}
		b.trailer, err = trailerOf(list)
		return b, err
	})
}

// digestWith returns the digest of the items and more.
func (b *builtin) digestWith(more []item) (string, error) {
	h := sha256.New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(b.hash); err != nil {
		return "", err
	}
	addItems(h, more)
	return hex.EncodeToString(h.Sum(nil)), nil
}
