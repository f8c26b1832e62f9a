package wire

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// piece encodes one piece.
func piece(offset uint64, data string) string {
	b := make([]byte, PieceHeader)
	PutPiece(b, int64(offset), len(data))
	return string(b) + data
}

func TestPieces(t *testing.T) {
	for name, tc := range map[string]struct {
		stream string
		want   string // with holes as dots, "" when it is refused
		size   int64
	}{
		"a file":         {piece(0, "ab") + piece(4, "c") + piece(7, ""), "ab..c", 7},
		"empty":          {piece(0, ""), "", 0},
		"only a hole":    {piece(1<<40, ""), "", 1 << 40},
		"side by side":   {piece(2, "ab") + piece(4, "cd") + piece(6, ""), "..abcd", 6},
		"without an end": {piece(0, "ab"), "", -1},
		"cut":            {piece(0, "ab")[:PieceHeader+1], "", -1},
		"nothing":        {"", "", -1},
		"backwards":      {piece(2, "ab") + piece(3, "c") + piece(9, ""), "", -1},
		"end too early":  {piece(2, "ab") + piece(3, ""), "", -1},
		"negative":       {piece(1<<63, "a") + piece(1<<63, ""), "", -1},
		"too far":        {piece(math.MaxInt64, "a"), "", -1},
		"behind the end": {piece(0, "a") + piece(1, "") + "x", "", -1},
	} {
		for step := 1; step <= len(tc.stream)+1; step++ {
			var d Pieces
			got := ""
			var err error
			for p := []byte(tc.stream); len(p) > 0 && err == nil; {
				n := min(step, len(p))
				err = d.Feed(p[:n], func(offset int64, p []byte) error {
					for len(got) < int(offset) {
						got += "."
					}
					got += string(p)
					return nil
				})
				p = p[n:]
			}
			size := int64(-1)
			if err == nil {
				if size, err = d.Size(); err != nil {
					size = -1
				}
			}
			if size != tc.size || err == nil && got != tc.want || err != nil && !errors.Is(err, ErrMalformed) {
				t.Errorf("%s by %d: %q of %d, %v", name, step, got, size, err)
			}
		}
	}
}

func FuzzPieces(f *testing.F) {
	f.Add([]byte(piece(0, "ab")+piece(4, "c")+piece(7, "")), 3)
	f.Add([]byte(piece(math.MaxInt64, "a")), 1)
	f.Add([]byte(piece(1<<63, "")), 100)
	f.Add([]byte(piece(2, "ab")+piece(3, "")), 5)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		var d Pieces
		at, sum := int64(0), 0
		for p := stream; len(p) > 0; {
			n := max(1, min(step, len(p)))
			err := d.Feed(p[:n], func(offset int64, p []byte) error {
				if offset < at || len(p) == 0 {
					t.Fatalf("%d bytes at %d, behind %d", len(p), offset, at)
				}
				at, sum = offset+int64(len(p)), sum+len(p)
				return nil
			})
			if err != nil {
				if !errors.Is(err, ErrMalformed) {
					t.Fatal(err)
				}
				return
			}
			p = p[n:]
		}
		if size, err := d.Size(); err == nil && size < at || sum > len(stream) || at < 0 {
			t.Fatalf("size %d, %d bytes up to %d", size, sum, at)
		}
	})
}

// TestDataReader reads a file with holes, and files that do not say what they are.
func TestDataReader(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 1 << 30, 2 << 30} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(3 << 30); err != nil {
		t.Fatal(err)
	}
	sum, seen := int64(0), map[int64]string{}
	r := NewDataReader(f, true)
	p := make([]byte, 1<<20)
	for {
		offset, n, err := r.Next(p)
		if err == io.EOF {
			if offset != 3<<30 {
				t.Errorf("the end is at %d", offset)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if sum += int64(n); sum > 16<<20 {
			t.Fatal("holes are read")
		}
		seen[offset] = string(p[:4])
	}
	if len(seen) != 3 || seen[1<<30] != "data" || seen[2<<30] != "data" {
		t.Errorf("%v", seen)
	}

	for name, from := range map[string]*fakeFile{
		"knows no holes": {Reader: bytes.NewReader([]byte("text")), data: unix.EINVAL},
		"only a hole":    {Reader: bytes.NewReader([]byte("text")), data: unix.ENXIO},
	} {
		r := NewDataReader(from, true)
		offset, n, err := r.Next(p)
		if err == nil {
			offset, _, err = r.Next(p)
		}
		if want := map[string]int{"knows no holes": 4}[name]; n != want || offset != 4 || err != io.EOF {
			t.Errorf("%s: %d bytes, the end at %d, %v", name, n, offset, err)
		}
	}
	lies := &fakeFile{Reader: bytes.NewReader([]byte("text")), hole: 0}
	if _, _, err := NewDataReader(lies, true).Next(p); err == nil || err == io.EOF {
		t.Errorf("data without an end: %v", err)
	}
}

// fakeFile answers to SEEK_DATA with an error, if there is one, and to SEEK_HOLE.
type fakeFile struct {
	*bytes.Reader
	data error
	hole int64
}

func (f *fakeFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case unix.SEEK_DATA:
		return offset, f.data
	case unix.SEEK_HOLE:
		return f.hole, nil
	}
	return f.Reader.Seek(offset, whence)
}
