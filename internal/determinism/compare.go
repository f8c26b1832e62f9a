package determinism

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	logSuffix = ".points"
	maxLine   = 64 << 10  // bytes
	maxLog    = 256 << 20 // bytes
)

// Difference is the first one between two runs.
type Difference struct {
	Guest string // file, VM and number of the boot
	Point int    // of the sync points; 0: the guest is in one of the runs only
	Op    string // what the host waited for
	What  string
}

func (d *Difference) String() string {
	if d.Point == 0 {
		return fmt.Sprintf("%s: %s", d.Guest, d.What)
	}
	op := d.Op
	if op == "" {
		op = "the boot"
	}
	return fmt.Sprintf("%s: %s in or before %s (sync point %d)", d.Guest, d.What, op, d.Point)
}

// Compare returns the first difference of each guest of two runs, by the directories of their logs. It also
// returns how many points were compared.
func Compare(one, two string) (all []Difference, points int, err error) {
	names := map[string]int{}
	for i, dir := range []string{one, two} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, 0, err
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), logSuffix) {
				names[e.Name()] |= i + 1
			}
		}
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		if in := names[name]; in != 3 {
			which := [...]string{"first", "other"}[in-1]
			all = append(all, Difference{Guest: guest(name), What: "it ran in the " + which + " run only"})
			continue
		}
		a, err := read(filepath.Join(one, name))
		if err != nil {
			return nil, 0, err
		}
		b, err := read(filepath.Join(two, name))
		if err != nil {
			return nil, 0, err
		}
		n, d := compare(a, b)
		points += n
		if d != nil {
			d.Guest = guest(name)
			all = append(all, *d)
		}
	}
	return all, points, nil
}

func guest(name string) string {
	text, err := url.PathUnescape(strings.TrimSuffix(name, logSuffix))
	if err != nil {
		return name
	}
	return text
}

// compare returns how many points are equal, and the first difference.
func compare(a, b []Point) (equal int, d *Difference) {
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			continue
		}
		d := &Difference{Point: a[i].Number, Op: a[i].Op}
		switch {
		case a[i].Sent != b[i].Sent || a[i].Op != b[i].Op:
			d.What = "the test did something else"
		case a[i].Received != b[i].Received:
			d.What = "the guest has answered something else"
		case a[i].Printed != b[i].Printed:
			d.What = "the guest has printed something else on its consoles"
		case a[i].Memory != b[i].Memory:
			d.What = "the guest's memory differs"
		default:
			d.What = "the guest has got there by another way"
		}
		return i, d
	}
	if len(a) == len(b) {
		return len(a), nil
	}
	longer, run := a, "first"
	if len(b) > len(a) {
		longer, run = b, "other"
	}
	next := longer[min(len(a), len(b))]
	return min(len(a), len(b)), &Difference{Point: next.Number, Op: next.Op,
		What: fmt.Sprintf("the guest went on in the %s run only", run)}
}

// Digest returns a short text of all points of a run, by the directory of its logs: equal runs have equal digests, also
// on another day or machine.
func Digest(dir string) (string, error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), logSuffix) {
			continue
		}
		points, err := read(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		text, err := json.Marshal(points)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s\n%s\n", e.Name(), text)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// read reads a log.
func read(path string) ([]Point, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	points, err := decode(io.LimitReader(f, maxLog))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return points, nil
}

// decode decodes a log. The last line may be cut off, where the run was.
func decode(r io.Reader) (points []Point, err error) {
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return points, nil
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", len(points)+1, err)
		}
		var p Point
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&p); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(points)+1, err)
		}
		points = append(points, p)
	}
}
