package decompress

import (
	"bytes"
	stdgzip "compress/gzip"
	"encoding/hex"
	"errors"
	"io"
	"math/rand"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const sample = "hello hello hello hello hello hello decompressed content\n"

// streams holds sample as the common tools compress it.
var streams = []struct {
	name   string
	format Format
	hex    string
}{
	{"gzip", Gzip,
		"1f8b0800000000000203cb48cdc9c957c8c04ba6a426e7e71614a51617a7a62824e7e795a4e695700100a8bf70b13900" +
			"0000"},
	{"xz crc64", XZ,
		"fd377a585a000004e6d6b4460200210110000000a8708e86e0003800215d00341949ee8de95777ea9ee601a464e5ce33" +
			"adae9ad5df6914ad0c1bc1ddffdf00000000000041a81a47ee44a35d00013d399d756b151fb6f37d010000000004595a"},
	{"xz with x86 filter", XZ,
		"fd377a585a0000016922de3602010400210110008b216f49e0003800215d00341949ee8de95777ea9ee601a464e5ce33" +
			"adae9ad5df6914ad0c1bc1ddffdf000000000000a8bf70b10001393999b007719042990d010000000001595a"},
	{"zstd with checksum", Zstd,
		"28b52ffd04680d0100d868656c6c6f206465636f6d7072657373656420636f6e74656e740a0100114b1134dc9d3d"},
	{"zstd", Zstd, "28b52ffd00580d0100d868656c6c6f206465636f6d7072657373656420636f6e74656e740a0100114b11"},
	{"lz4", LZ4, "02214c18210000006f68656c6c6f2006000bf0066465636f6d7072657373656420636f6e74656e740a"},
	{"lzma", LZMA,
		"5d00000100ffffffffffffffff00341949ee8de95777ea9ee601a464e5ce33adae9ad5df6914ad0c1bc1de48715e3fff" +
			"ddbe4000"},
	{"bzip2", Bzip2,
		"425a683931415926535963b700f700000dd180001040000e47dc00200021911934c9ea1000016ec19866d2a0654115c0" +
			"6c1ebb38363164a1f17724538509063b700f70"},
	{"lzop", LZO,
		"894c5a4f000d0a1a0a104020a0094003090300000d000081a46b04c9ff00000000003b1904d200000039000000246b6c" +
			"155c1768656c6c6f203c140000036465636f6d7072657373656420636f6e74656e740a11000000000000"},
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStreamsEndWhereTheyEnd(t *testing.T) {
	for _, s := range streams {
		for _, tail := range []string{"", "\x00\x00\x00\x00", "070701 next archive"} {
			data := unhex(t, s.hex)
			if got := Detect(data); got != s.format {
				t.Fatalf("%s: detected as %q", s.name, got)
			}
			src := NewSource(strings.NewReader(string(data) + tail))
			r, err := NewReader(s.format, src)
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			out, err := io.ReadAll(r)
			if err != nil || string(out) != sample {
				t.Errorf("%s with tail %q: got %q, %v", s.name, tail, out, err)
			}
			if err := r.Close(); err != nil {
				t.Errorf("%s: close: %v", s.name, err)
			}
			if src.Offset() != int64(len(data)) {
				t.Errorf("%s with tail %q: took %d bytes, the stream has %d", s.name, tail, src.Offset(), len(data))
			}
			if rest, err := io.ReadAll(src); err != nil || string(rest) != tail {
				t.Errorf("%s: left %q, %v; want %q", s.name, rest, err, tail)
			}
		}
	}
}

// encoders are those of the libraries in use.
var encoders = map[Format]func(io.Writer) (io.WriteCloser, error){
	Gzip: func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	Zstd: func(w io.Writer) (io.WriteCloser, error) {
		return zstd.NewWriter(w, zstd.WithZeroFrames(true), zstd.WithEncoderConcurrency(1))
	},
	XZ: func(w io.Writer) (io.WriteCloser, error) {
		return xz.WriterConfig{BlockSize: 128 << 10, DictCap: 64 << 10}.NewWriter(w)
	},
}

// encoded returns a source of the compressed content with tail behind it, and the size of the
// content when compressed.
func encoded(t *testing.T, encoder func(io.Writer) (io.WriteCloser, error), content, tail []byte) (int64, *Source) {
	t.Helper()
	var b bytes.Buffer
	w, err := encoder(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	size := int64(b.Len())
	b.Write(tail)
	return size, NewSource(&b)
}

// TestLongStreams uses content that takes many blocks and does not compress.
func TestLongStreams(t *testing.T) {
	content := make([]byte, 512<<10)
	rand.New(rand.NewSource(1)).Read(content)
	copy(content[200<<10:], bytes.Repeat([]byte("abc"), 50<<10))
	for f, encoder := range encoders {
		size, src := encoded(t, encoder, content, []byte("tail"))
		r, err := NewReader(f, src)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		out, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(out, content) {
			t.Errorf("%s: %d bytes, %v", f, len(out), err)
		}
		if src.Offset() != size {
			t.Errorf("%s: took %d bytes of %d", f, src.Offset(), size)
		}
	}
}

func TestCutStreams(t *testing.T) {
	for _, s := range streams {
		data := unhex(t, s.hex)
		for n := len(data) - 1; n > 0; n-- {
			r, err := NewReader(s.format, NewSource(bytes.NewReader(data[:n])))
			if err != nil {
				continue
			}
			out, err := io.ReadAll(r)
			if err == nil && string(out) == sample && s.format != LZ4 {
				t.Errorf("%s cut to %d of %d bytes reads without an error", s.name, n, len(data))
			}
			if err != nil && !strings.Contains(err.Error(), string(s.format)) {
				t.Errorf("%s: the error does not name the format: %v", s.name, err)
			}
		}
	}
}

func TestBytes(t *testing.T) {
	if out, err := Bytes([]byte("plain"), 5); err != nil || string(out) != "plain" {
		t.Errorf("plain data: %q, %v", out, err)
	}
	if _, err := Bytes([]byte("plain"), 4); err == nil {
		t.Error("plain data above the limit is taken")
	}
	z := unhex(t, streams[0].hex)
	if out, err := Bytes(z, int64(len(sample))); err != nil || string(out) != sample {
		t.Errorf("gzip: %q, %v", out, err)
	}
	if _, err := Bytes(z, int64(len(sample))-1); err == nil || !strings.Contains(err.Error(), "exceeds 56 bytes") {
		t.Errorf("gzip above the limit: %v", err)
	}
	if _, err := NewReader("rar", NewSource(strings.NewReader(""))); err == nil {
		t.Error("an unknown format is taken")
	}
}

func FuzzReader(f *testing.F) {
	for _, s := range streams {
		f.Add(append(unhex(f, s.hex), "tail"...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		format := Detect(data)
		if format == None {
			return
		}
		src := NewSource(bytes.NewReader(data))
		r, err := NewReader(format, src)
		if err != nil {
			return
		}
		defer r.Close()
		out, err := io.ReadAll(io.LimitReader(r, 4<<20))
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("io.EOF as an error: %v", err)
		}
		if src.Offset() > int64(len(data)) {
			t.Fatalf("took %d of %d bytes", src.Offset(), len(data))
		}
		if format != Gzip {
			return
		}
		// The standard library's decoder, which is not the one in use.
		z, zerr := stdgzip.NewReader(bytes.NewReader(data))
		if zerr != nil {
			t.Fatalf("accepted a header that the standard library does not: %v", zerr)
		}
		z.Multistream(false)
		want, zerr := io.ReadAll(io.LimitReader(z, 4<<20))
		if (zerr == nil) != (err == nil) || err == nil && !bytes.Equal(out, want) {
			t.Errorf("%d bytes, %v; the standard library: %d bytes, %v", len(out), err, len(want), zerr)
		}
	})
}

// FuzzRoundTrip checks that content survives, and that reading ends at its end.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(sample), []byte("tail"))
	f.Add([]byte{}, []byte{0, 0, 0, 0})
	f.Add(bytes.Repeat([]byte("ab"), 5000), []byte{})
	f.Fuzz(func(t *testing.T, content, tail []byte) {
		for format, encoder := range encoders {
			data, src := encoded(t, encoder, content, tail)
			r, err := NewReader(format, src)
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			if out, err := io.ReadAll(r); err != nil || !bytes.Equal(out, content) {
				t.Errorf("%s: %d bytes became %d, %v", format, len(content), len(out), err)
			}
			if src.Offset() != data {
				t.Errorf("%s: took %d bytes of %d", format, src.Offset(), data)
			}
			if err := r.Close(); err != nil {
				t.Errorf("%s: %v", format, err)
			}
		}
	})
}
