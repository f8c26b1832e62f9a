package shard

import (
	"bytes"
	"cmp"
	"container/heap"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"provium/internal/jsonerror"
)

// MaxDurationsFile is the size of a durations file in bytes, enough for 100,000 long paths.
const MaxDurationsFile = 32 << 20

// maxMS is the longest duration of a file, so that sums of them do not overflow: a year.
const maxMS = 365 * 24 * 3600 * 1000

// durationsVersion is that of the format.
const durationsVersion = 1

// Durations says how long test files took.
type Durations struct {
	// Digest is that of the file that they were read from, as sha256:HEX.
	Digest string

	ms map[string]int64
}

// durationsJSON is the format of a durations file.
type durationsJSON struct {
	Version int          `json:"version"`
	Files   milliseconds `json:"files"`
}

// milliseconds are durations by path.
type milliseconds map[string]int64

// UnmarshalJSON implements json.Unmarshaler. A path that is there twice, as after a bad merge, is an error.
func (m *milliseconds) UnmarshalJSON(text []byte) error {
	if err := json.Unmarshal(text, (*map[string]int64)(m)); err != nil {
		return fmt.Errorf("files: %w", jsonerror.Plain(err))
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	seen := make(map[string]bool, len(*m))
	for {
		token, err := dec.Token()
		switch key, isText := token.(string); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case isText && seen[key]: // values are numbers
			return fmt.Errorf("files: %q is there twice", key)
		case isText:
			seen[key] = true
		}
	}
}

// NewDurations returns the given durations, by paths relative to the project.
func NewDurations(of map[string]time.Duration) *Durations {
	d := &Durations{ms: map[string]int64{}}
	for path, took := range of {
		d.ms[path] = min(max(took.Milliseconds(), 1), maxMS)
	}
	return d
}

// ReadDurations reads a durations file.
func ReadDurations(path string) (*Durations, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxDurationsFile+1))
	if err != nil {
		return nil, err
	}
	d, err := ParseDurations(text)
	if err != nil {
		return nil, fmt.Errorf("`%s`: %w", path, err)
	}
	return d, nil
}

// ParseDurations reads the text of a durations file.
func ParseDurations(text []byte) (*Durations, error) {
	if len(text) > MaxDurationsFile {
		return nil, fmt.Errorf("a durations file has at most %d bytes", MaxDurationsFile)
	}
	var v durationsJSON
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("not a durations file: %w", jsonerror.Plain(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a durations file: more follows its end")
	}
	if v.Version != durationsVersion {
		return nil, fmt.Errorf("a durations file of version %d, this program reads version %d", v.Version,
			durationsVersion)
	}
	for path, ms := range v.Files {
		if path == "" || ms < 1 || ms > maxMS {
			return nil, fmt.Errorf("not a durations file: %q has %d ms (valid: 1 to %d)", path, ms, int64(maxMS))
		}
	}
	return &Durations{Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(text)), ms: v.Files}, nil
}

// Write writes a durations file. The same durations are always the same bytes.
func (d *Durations) Write(w io.Writer) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(durationsJSON{durationsVersion, d.ms}); err != nil { // which sorts the keys
		return err
	}
	_, err := w.Write(text.Bytes())
	return err
}

// balance returns the part of each path, from 0. A path without a duration counts with the
// median of the others.
func (d *Durations) balance(paths []string, parts int) []int {
	var known []int64
	for _, path := range paths {
		if ms, ok := d.ms[path]; ok {
			known = append(known, ms)
		}
	}
	median := int64(1)
	if len(known) > 0 {
		slices.Sort(known)
		median = known[(len(known)-1)/2]
	}
	took := make([]int64, len(paths))
	order := make([]int, len(paths))
	for i, path := range paths {
		order[i], took[i] = i, median
		if ms, ok := d.ms[path]; ok {
			took[i] = ms
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(took[b], took[a]) })
	h := make(loads, min(parts, len(paths))) // parts beyond the number of paths stay empty
	for i := range h {
		h[i].part = i
	}
	out := make([]int, len(paths))
	for _, i := range order {
		out[i] = h[0].part
		h[0].ms += took[i]
		heap.Fix(&h, 0)
	}
	return out
}

// load is what a part has to do.
type load struct {
	ms   int64
	part int
}

// loads is a heap with the part first that has least to do, of several the first.
type loads []load

func (h loads) Len() int { return len(h) }

func (h loads) Less(a, b int) bool {
	return h[a].ms < h[b].ms || h[a].ms == h[b].ms && h[a].part < h[b].part
}

func (h loads) Swap(a, b int) { h[a], h[b] = h[b], h[a] }

func (h loads) Push(any) { panic("shard: parts are not added") }

func (h loads) Pop() any { panic("shard: parts are not removed") }
