package nbd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
)

// FuzzCommand checks that a command is the same after encoding, and that whatever can
// be decoded is encoded to the same bytes.
func FuzzCommand(f *testing.F) {
	f.Add(request(cmdFlagFUA, cmdWrite, 1<<63, 1<<40, 1<<31))
	f.Add(request(0, cmdDisc, 0, 0, 0))
	f.Add(make([]byte, commandSize))
	f.Fuzz(func(t *testing.T, p []byte) {
		c, err := decodeCommand(p)
		if err != nil {
			return
		}
		if again := c.append(nil); !bytes.Equal(again, p) {
			t.Errorf("%+v: %x, was %x", c, again, p)
		}
	})
}

// FuzzOption checks that whatever can be decoded as an option and its data is encoded
// to the same bytes.
func FuzzOption(f *testing.F) {
	f.Add(option{optGo, encodeGo("name", infoBlockSize, infoExport)}.append(nil))
	f.Add(option{optSetMeta, encodeMeta("name", contextName, "qemu:dirty")}.append(nil))
	f.Add(option{optInfo, []byte("\xff\xff\xff\xff\x00\x00")}.append(nil))
	f.Add(option{kind: optAbort}.append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		r := bytes.NewReader(p)
		o, err := readOption(r)
		if errors.Is(err, errOptionTooBig) {
			if n := 16 + int(binary.BigEndian.Uint32(p[12:])); len(p)-r.Len() != n {
				t.Errorf("%d of %d bytes were skipped", len(p)-r.Len(), n)
			}
			return
		}
		if err != nil {
			return
		}
		if again := o.append(nil); !bytes.Equal(again, p[:len(p)-r.Len()]) {
			t.Errorf("option %d: %x, was %x", o.kind, again, p)
		}
		if name, infos, err := decodeGo(o.data); err == nil {
			if again := encodeGo(name, infos...); !bytes.Equal(again, o.data) {
				t.Errorf("%q, %v: %x, was %x", name, infos, again, o.data)
			}
		}
		if name, queries, err := decodeMeta(o.data); err == nil {
			if again := encodeMeta(name, queries...); !bytes.Equal(again, o.data) {
				t.Errorf("%q, %q: %x, was %x", name, queries, again, o.data)
			}
		}
	})
}

// fuzzDisk is the size of the disks of fuzz tests, in bytes: small, since each input gets
// one.
const fuzzDisk = 16 << 10

// Inputs are short, since the fuzzer minimizes what it finds byte by byte: runMark and a
// number n stand for n times runLength bytes of data, 0 for the byte runMark itself.
const (
	runMark   = 0xf5
	runLength = 16
	runByte   = 'x'
)

// expand returns the bytes that an input stands for.
func expand(p []byte) []byte {
	var out []byte
	for len(p) > 0 {
		at := bytes.IndexByte(p, runMark)
		if at < 0 || at == len(p)-1 {
			return append(out, p...)
		}
		out = append(out, p[:at]...)
		if n := int(p[at+1]); n > 0 {
			out = append(out, bytes.Repeat([]byte{runByte}, n*runLength)...)
		} else {
			out = append(out, runMark)
		}
		p = p[at+2:]
	}
	return out
}

// shorten returns an input that stands for p.
func shorten(p []byte) []byte {
	var out []byte
	for len(p) > 0 {
		n := 0
		for n < 255 && bytes.HasPrefix(p[n*runLength:], bytes.Repeat([]byte{runByte}, runLength)) {
			n++
		}
		switch {
		case n > 0:
			out, p = append(out, runMark, byte(n)), p[n*runLength:]
		case p[0] == runMark:
			out, p = append(out, runMark, 0), p[1:]
		default:
			out, p = append(out, p[0]), p[1:]
		}
	}
	return out
}

// conversation is a connection to a client that says what r has; w has what it hears.
type conversation struct {
	r io.Reader
	w bytes.Buffer
}

func (c *conversation) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c *conversation) Write(p []byte) (int, error) { return c.w.Write(p) }

// FuzzSession feeds a whole conversation to the server. What the server said is read
// by a decoder of its own, which knows what the client asked for.
func FuzzSession(f *testing.F) {
	start := binary.BigEndian.AppendUint32(nil, cFlagFixedNewstyle|cFlagNoZeroes)
	opt := func(kind uint32, data []byte) []byte { return option{kind, data}.append(nil) }
	info := encodeGo("", infoBlockSize)
	meta := encodeMeta("", contextName)
	add := func(parts ...[]byte) { f.Add(shorten(bytes.Join(parts, nil))) }
	add(start, opt(optStructuredReply, nil), opt(optSetMeta, meta), opt(optListMeta, meta),
		opt(optInfo, info), opt(optGo, info), request(0, cmdRead, 1, 0, 512),
		append(request(cmdFlagFUA, cmdWrite, 2, 512, 512), blocks('x', 1)...), request(0, cmdBlockStatus, 3, 0, 4096),
		request(0, cmdFlush, 4, 0, 0), request(0, cmdTrim, 5, 0, fuzzDisk), request(0, cmdDisc, 6, 0, 0))
	add(start, opt(optList, nil), opt(optExportName, []byte("x")), request(0, cmdRead, 1, 1<<63, 1<<31))
	add(start, opt(optAbort, nil))
	add(start, opt(optGo, []byte("\xff\xff\xff\xff\x00\x00")))
	f.Fuzz(func(t *testing.T, short []byte) {
		p := expand(short)
		said := bytes.NewReader(p)
		conn := &conversation{r: said}
		s := &session{disk: newMemory(fuzzDisk), conn: conn, r: said, room: make(chan struct{}, maxDelayed)}
		if err := s.handshake(); err != nil {
			return
		}
		begin := len(p) - said.Len()
		conn.w.Reset() // of the handshake
		err := s.transmit(context.Background())
		must(t, s.send())
		checkReplies(t, s.terms, p[begin:], conn.w.Bytes(), errors.Is(err, ErrProtocol))
	})
}

// checkReplies reads commands and the replies to them, which must be in the same order
// and agree with an array.
func checkReplies(t *testing.T, agreed terms, said, heard []byte, broken bool) {
	t.Helper()
	content := make([]byte, fuzzDisk)
	replies := bytes.NewReader(heard)
	word := func(n int) uint64 {
		t.Helper()
		var p [8]byte
		if _, err := io.ReadFull(replies, p[8-n:]); err != nil {
			t.Fatalf("a reply ends early: %v", err)
		}
		return binary.BigEndian.Uint64(p[:])
	}
	for len(said) >= commandSize {
		c, err := decodeCommand(said[:commandSize])
		if err != nil || c.kind == cmdDisc {
			break
		}
		said = said[commandSize:]
		var payload []byte
		if c.kind == cmdWrite {
			if c.n > maxRequest || int(c.n) > len(said) {
				break // nothing is replied to it
			}
			payload, said = said[:c.n], said[c.n:]
		}
		whole := c.off%BlockSize == 0 && c.n%BlockSize == 0
		inside := whole && c.n > 0 && c.off < fuzzDisk && uint64(c.n) <= fuzzDisk-c.off
		errno, data := uint64(0), []byte(nil)
		switch magic := word(4); magic {
		case magicSimple:
			errno = word(4)
			if cookie := word(8); cookie != c.cookie {
				t.Fatalf("reply to %d, want %d", cookie, c.cookie)
			}
			if c.kind == cmdRead && errno == 0 {
				data = make([]byte, c.n)
				if _, err := io.ReadFull(replies, data); err != nil {
					t.Fatal(err)
				}
			}
		case magicStructured:
			flags, kind, cookie, n := word(2), word(2), word(8), word(4)
			if !agreed.structured || flags != chunkFlagDone || cookie != c.cookie {
				t.Fatalf("chunk with flags %#x for %d, want %d", flags, cookie, c.cookie)
			}
			body := make([]byte, n)
			if _, err := io.ReadFull(replies, body); err != nil {
				t.Fatal(err)
			}
			switch kind {
			case chunkError:
				errno = uint64(binary.BigEndian.Uint32(body))
			case chunkOffsetData:
				if at := binary.BigEndian.Uint64(body); at != c.off {
					t.Errorf("data of %d, want %d", at, c.off)
				}
				data = body[8:]
			case chunkBlockStatus:
				checkStatus(t, c, body, content)
			default:
				t.Fatalf("chunk of kind %d", kind)
			}
		default:
			t.Fatalf("magic %#x", magic)
		}
		if errno == 0 && !inside && c.kind != cmdFlush {
			t.Errorf("%+v passed", c)
		}
		if errno != 0 {
			continue
		}
		switch c.kind {
		case cmdRead:
			if !bytes.Equal(data, content[c.off:c.off+uint64(c.n)]) {
				t.Errorf("%+v: other data", c)
			}
		case cmdWrite:
			copy(content[c.off:], payload)
		case cmdTrim, cmdZeroes:
			clear(content[c.off : c.off+uint64(c.n)])
		}
	}
	if replies.Len() > 0 && !broken {
		t.Errorf("%d bytes that nobody asked for", replies.Len())
	}
}

// checkStatus checks the ranges of a block status.
func checkStatus(t *testing.T, c command, body, content []byte) {
	t.Helper()
	be := binary.BigEndian
	if len(body) < 12 || len(body)%8 != 4 || be.Uint32(body) != contextID {
		t.Fatalf("block status: %x", body)
	}
	at, end := c.off, c.off+uint64(c.n)
	for body = body[4:]; len(body) > 0; body = body[8:] {
		n := uint64(be.Uint32(body))
		if n == 0 || n > end-at {
			t.Fatalf("range of %d bytes at %d, up to %d", n, at, end)
		}
		if be.Uint32(body[4:])&stateZero != 0 && !bytes.Equal(content[at:at+n], make([]byte, n)) {
			t.Errorf("%d+%d are not zeroes", at, n)
		}
		at += n
	}
}

// scripted is a server that says what it was told to, and keeps what it heard.
type scripted struct {
	net.Conn
	r     *bytes.Reader
	heard *bytes.Buffer
}

func (s scripted) Read(p []byte) (int, error)  { return s.r.Read(p) }
func (s scripted) Write(p []byte) (int, error) { return s.heard.Write(p) }
func (s scripted) Close() error                { return nil }

// FuzzClient feeds what a server may say to a client. The client must keep within the
// range of a request, and must itself say only what the server's decoders understand.
func FuzzClient(f *testing.F) {
	// What our own server says to a client that reads.
	disk := newMemory(fuzzDisk)
	must(f, disk.Write(context.Background(), blocks(runByte, fuzzDisk/BlockSize), 0, false))
	near, far := net.Pipe()
	ended := make(chan error)
	go func() { ended <- Serve(context.Background(), far, disk) }()
	said := &tap{Conn: near}
	c, err := NewClient(said)
	must(f, err)
	_, err = c.ReadAt(make([]byte, BlockSize), 0)
	must(f, err)
	c.Hole(0, fuzzDisk)
	_ = c.Close()
	must(f, <-ended)
	f.Add(shorten(said.got.Bytes()))
	f.Add(said.got.Bytes()[:18])
	f.Fuzz(func(t *testing.T, short []byte) {
		conn := scripted{r: bytes.NewReader(expand(short)), heard: &bytes.Buffer{}}
		c := &Client{conn: conn, r: bufio.NewReaderSize(conn, BlockSize)}
		err := c.handshake()
		if err == nil {
			c.size = min(max(c.size, 0), fuzzDisk)
			const size = BlockSize
			buf := bytes.Repeat([]byte{0xa5}, 3*size)
			n, err := c.ReadAt(buf[size:2*size], 0)
			if n < 0 || n > size || int64(n) > c.size || err == nil && n != size {
				t.Errorf("read: %d, %v", n, err)
			}
			if rest := bytes.Repeat([]byte{0xa5}, size); !bytes.Equal(buf[:size], rest) ||
				!bytes.Equal(buf[2*size:], rest) {
				t.Error("read: bytes around the range were changed")
			}
			if _, k := c.Hole(0, size); k < 1 || k > size {
				t.Errorf("hole: %d", k)
			}
			if n, err := c.WriteAt(buf[:size], 0); err == nil && n != size {
				t.Errorf("write: %d", n)
			}
			_ = c.Flush()
			_ = c.Close()
		}
		checkClient(t, conn.heard.Bytes(), err == nil)
	})
}

// checkClient reads what a client said.
func checkClient(t *testing.T, heard []byte, agreed bool) {
	t.Helper()
	r := bytes.NewReader(heard)
	var flags [4]byte
	if _, err := io.ReadFull(r, flags[:]); err != nil {
		return // it did not like the greeting
	}
	for r.Len() > 0 {
		o, err := readOption(r)
		must(t, err)
		if o.kind == optGo {
			name, infos, err := decodeGo(o.data)
			if err != nil || name != "" || len(infos) > 0 {
				t.Errorf("%q, %v, %v", name, infos, err)
			}
			break
		}
	}
	if !agreed && r.Len() > 0 {
		t.Errorf("%d bytes after a handshake that failed", r.Len())
	}
	for cookie := uint64(1); r.Len() > 0; cookie++ {
		var p [commandSize]byte
		_, err := io.ReadFull(r, p[:])
		must(t, err)
		c, err := decodeCommand(p[:])
		must(t, err)
		switch c.kind {
		case cmdDisc:
			if r.Len() > 0 {
				t.Errorf("%d bytes after the end", r.Len())
			}
			return
		case cmdWrite:
			_, err := io.CopyN(io.Discard, r, int64(c.n))
			must(t, err)
		}
		if c.cookie != cookie {
			t.Errorf("cookie %d, want %d", c.cookie, cookie)
		}
	}
}

// tap keeps what was read.
type tap struct {
	net.Conn
	got bytes.Buffer
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.got.Write(p[:n])
	return n, err
}
