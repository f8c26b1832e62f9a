package recording

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

const (
	format       = 2
	maxManifest  = 8 << 20  // bytes
	maxMemory    = 64 << 30 // of a guest, in bytes
	maxPoints    = 10_000   // that a recording keeps: the latest
	maxPointText = 64 << 10
)

// Point is a moment of a recorded guest that has a name.
type Point struct {
	At    int64  `json:"at"`              // instructions since the beginning
	Text  string `json:"text"`            // the operation that begins there, or the name of the mark
	Where string `json:"where,omitempty"` // FILE:LINE
	Mark  bool   `json:"mark,omitempty"`  // made by t:mark
}

// Failure is the text of the point at which a test has failed.
const Failure = "the failure"

// Manifest describes a recording.
type Manifest struct {
	Format          int     `json:"format"`
	VM              string  `json:"vm"`
	QEMU            string  `json:"qemu"`    // version
	Program         string  `json:"program"` // of QEMU
	Machine         string  `json:"machine"` // type
	Memory          int64   `json:"memory"`  // bytes
	Kernel          string  `json:"kernel"`  // path
	Cmdline         string  `json:"cmdline"`
	FirmwareConsole bool    `json:"firmware_console,omitempty"`
	StateLen        int64   `json:"state_bytes"`
	LogLen          int64   `json:"log_bytes"`
	StateDigest     string  `json:"state_digest"` // SHA-256
	LogDigest       string  `json:"log_digest"`
	End             int64   `json:"end"` // instructions
	Panicked        bool    `json:"panicked,omitempty"`
	Vmlinux         string  `json:"vmlinux,omitempty"`
	Points          []Point `json:"points"`
}

// Write writes m as JSON.
func (m Manifest) Write(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(m)
}

// ParseManifest reads a description, which may come from another machine, and refuses one that no recording has.
func ParseManifest(text []byte) (m Manifest, err error) {
	switch {
	case len(text) > maxManifest:
		return m, fmt.Errorf("more than %d bytes are not the description of a recording", maxManifest)
	case json.Unmarshal(text, &m) != nil:
		return m, errors.New("it is not the description of a recording")
	case m.Format != format:
		return m, fmt.Errorf("its format is %d, this program knows %d", m.Format, format)
	case m.Memory <= 0 || m.Memory > maxMemory || m.End <= 0 || m.StateLen <= 0 || m.LogLen <= 0:
		return m, errors.New("its sizes are not those of a recording")
	case len(m.Points) > maxPoints:
		return m, fmt.Errorf("more than %d points", maxPoints)
	case strings.ContainsAny(m.Machine, ", ") || m.VM == "":
		return m, errors.New("its machine is not one that is recorded")
	case !filepath.IsAbs(m.Kernel) || strings.ContainsRune(m.Kernel+m.Program+m.Cmdline+m.Vmlinux, 0):
		return m, errors.New("its paths are not those of a recording")
	}
	before := int64(0)
	for _, p := range m.Points {
		if p.At < before || p.At > m.End || len(p.Text) > maxPointText {
			return m, errors.New("its points are not in order")
		}
		before = p.At
	}
	return m, nil
}
