package cpio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

type member struct {
	e       Entry
	content string
}

var members = []member{
	{Entry{Name: ".", Mode: TypeDir | 0o755}, ""},
	{Entry{Name: "bin/sh", Mode: TypeRegular | 0o755, UID: 1, GID: 2, Mtime: 3}, "#!"},
	{Entry{Name: "sbin", Mode: TypeSymlink | 0o777}, "usr/sbin"},
	{Entry{Name: "dev/console", Mode: TypeChar | 0o600, Major: 5, Minor: 1}, ""},
	{Entry{Name: "empty", Mode: TypeRegular}, ""},
}

func archive(t testing.TB, ms []member) []byte {
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, m := range ms {
		if err := w.Add(m.e, []byte(m.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 {
		t.Fatalf("wrote %d bytes", b.Len())
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	data := archive(t, members)
	r := NewReader(bytes.NewReader(append(data, "tail"...)))
	for i, m := range members {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		want := m.e
		want.Size = int64(len(m.content))
		want.Ino = uint32(i + 1)
		want.Links = e.Links
		if *e != want {
			t.Errorf("got %+v, want %+v", *e, want)
		}
		if i%2 == 0 {
			continue // Next skips what was not read
		}
		content, err := io.ReadAll(r)
		if err != nil || string(content) != m.content {
			t.Errorf("%s: content %q, %v", e.Name, content, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("behind the last member: %v", err)
	}
	if r.Offset() != int64(len(data)) {
		t.Errorf("offset %d, archive of %d bytes", r.Offset(), len(data))
	}
}

func header(fields map[int]string) string {
	f := make([]string, 13)
	for i := range f {
		f[i] = "00000000"
	}
	f[1] = "000081A4"
	f[11] = "00000002"
	for i, v := range fields {
		f[i] = v
	}
	return "070701" + strings.Join(f, "")
}

func TestBadArchives(t *testing.T) {
	good := string(archive(t, members))
	for _, c := range []struct{ name, data, want string }{
		{"empty", "", "offset 0: archive ends without a trailer"},
		{"short", good[:50], "offset 0: archive ends without a trailer"},
		{"no trailer", good[:112], "offset 112: archive ends without a trailer"},
		{"magic", "070707" + good[6:], `bad magic number "070707"`},
		{"hex", header(map[int]string{6: "+0000001"}), "bad header field"},
		{"no name", header(map[int]string{11: "00000000"}), "name of 0 bytes"},
		{"long name", header(map[int]string{11: "7FFFFFFF"}), "name of 2147483647 bytes"},
		{"name without NUL", header(nil) + "ab", "name without final NUL"},
		{"long symlink", header(map[int]string{1: "0000A1FF", 6: "00010000"}) + "a\x00", "target of 65536 bytes"},
		{"cut file", header(map[int]string{6: "FFFFFFFF"}) + "a\x00", "in the middle of a file"},
	} {
		r := NewReader(strings.NewReader(c.data))
		var err error
		for err == nil {
			_, err = r.Next()
		}
		var format *FormatError
		if !errors.As(err, &format) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	for _, e := range []Entry{
		{Mode: TypeDir},
		{Name: "a\x00b", Mode: TypeDir},
		{Name: strings.Repeat("a", MaxName+1), Mode: TypeDir},
		{Name: "TRAILER!!!", Mode: TypeRegular},
		{Name: "a", Mode: TypeRegular, Size: MaxSize + 1},
		{Name: "a", Mode: TypeRegular, Size: -1},
		{Name: "a", Mode: TypeDir, Size: 1},
	} {
		if err := NewWriter(io.Discard).WriteHeader(&e); err == nil {
			t.Errorf("%.20q %o of %d bytes is taken", e.Name, e.Mode, e.Size)
		}
	}
	w := NewWriter(io.Discard)
	if err := w.WriteHeader(&Entry{Name: "a", Mode: TypeRegular, Size: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("abc")); err == nil {
		t.Error("too much content is taken")
	}
	if err := w.Close(); err == nil {
		t.Error("missing content is taken")
	}
	if err := w.Add(Entry{Name: "b", Mode: TypeRegular}, nil); err == nil {
		t.Error("an entry in the middle of content is taken")
	}
}

func FuzzReader(f *testing.F) {
	f.Add(archive(f, members))
	f.Add([]byte(header(map[int]string{6: "00000003"}) + "a\x00abc\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		for range 1000 {
			e, err := r.Next()
			if err != nil {
				var format *FormatError
				if err != io.EOF && !errors.As(err, &format) {
					t.Fatalf("error of another kind: %v", err)
				}
				break
			}
			n, err := io.Copy(io.Discard, r)
			if err == nil && n != e.Size {
				t.Fatalf("%d bytes of %d", n, e.Size)
			}
		}
		if r.Offset() > int64(len(data)) {
			t.Fatalf("offset %d in %d bytes", r.Offset(), len(data))
		}
	})
}

func ExampleWriter() {
	var b bytes.Buffer
	w := NewWriter(&b)
	if err := w.Add(Entry{Name: "init", Mode: TypeRegular | 0o755}, []byte("#!/bin/sh\n")); err != nil {
		fmt.Println(err)
	}
	if err := w.Close(); err != nil {
		fmt.Println(err)
	}
	e, err := NewReader(&b).Next()
	fmt.Println(e.Name, e.Size, err)
	// Output: init 10 <nil>
}
