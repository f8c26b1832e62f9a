package blockdev

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// text is contents in memory, which a file describes.
type text struct {
	*bytes.Reader
	file   *os.File
	closed int
}

func (c *text) File() *os.File { return c.file }

func (c *text) Close() error {
	c.closed++
	return c.file.Close()
}

var errChanged = errors.New("it has changed")

func (c *text) ReadAt(p []byte, off int64) (int, error) {
	if off >= 6*SectorSize {
		return 0, errChanged
	}
	n, err := c.Reader.ReadAt(p, off)
	if err == io.EOF && n == len(p) {
		err = nil
	}
	return n, err
}

func newText(t *testing.T) *text {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	return &text{Reader: bytes.NewReader(bytes.Repeat([]byte("abcd"), 7*SectorSize/4)), file: f}
}

// TestDescribed has a disk begin with contents that are no file: what is saved of it are the
// changes.
func TestDescribed(t *testing.T) {
	c := newText(t)
	d, err := Open(Config{Contents: c, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if origin, ok, err := d.Origin(); err != nil || !ok || origin.Size != 7*SectorSize {
		t.Errorf("%+v, %v, %v", origin, ok, err)
	} else if info, err := origin.Base.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%v", err)
	} else {
		origin.Close()
	}
	if _, err := d.ReadSectors(t.Context(), 6, 1, true); !errors.Is(err, errChanged) {
		t.Errorf("of what cannot be read: %v", err)
	}
	if _, err := d.Record(1 << 20); err == nil || !strings.Contains(err.Error(), "userland") {
		t.Errorf("recorded: %v", err)
	}
	want := bytes.Repeat([]byte("abcd"), 4*SectorSize/4)
	copy(want[SectorSize:], bytes.Repeat([]byte("x"), SectorSize))
	if err := d.WriteSectors(t.Context(), 1, want[SectorSize:2*SectorSize]); err != nil {
		t.Fatal(err)
	}
	if err := d.Flush(); err != nil {
		t.Fatal(err)
	}
	image, err := d.Seal()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dump, err := image.Dump(func(p []byte) error { _, err := f.Write(p); return err })
	if err != nil || !dump.Described || dump.Medium != 1 {
		t.Fatalf("%+v, %v", dump, err)
	}
	if err := errors.Join(image.Release(), d.Close()); err != nil || c.closed != 1 {
		t.Errorf("%v, closed %d times", err, c.closed)
	}

	again := newText(t)
	loaded, err := LoadImage(dump, f, 0, again)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if err := loaded.ReadAt(got, 0, true); err != nil || !bytes.Equal(got, want) {
		t.Errorf("other contents, %v", err)
	}
	if err := loaded.Release(); err != nil || again.closed != 1 {
		t.Errorf("%v, closed %d times", err, again.closed)
	}
	if _, err := LoadImage(dump, f, 0, nil); err == nil {
		t.Error("changes without what was changed are taken")
	}
	other := newText(t)
	other.Reader = bytes.NewReader([]byte("short"))
	if _, err := LoadImage(dump, f, 0, other); err == nil || other.closed != 1 {
		t.Errorf("changes of another disk: %v, closed %d times", err, other.closed)
	}
}
