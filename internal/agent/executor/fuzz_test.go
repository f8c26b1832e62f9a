package executor

import (
	"bytes"
	"encoding/binary"
	"io"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// FuzzExecutorRequest compares the executor's decoder, built with the compiler's
// memory checks, with a second one. It begins with what the agent's encoder makes.
func FuzzExecutorRequest(f *testing.F) {
	program := filepath.Join(f.TempDir(), "decode")
	build := exec.Command("gcc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
		"-o", program, "program/testdata/decode.c", "program/request.c")
	if out, err := build.CombinedOutput(); err != nil {
		f.Fatalf("%v: %s", err, out)
	}
	decoder := startDecoder(f, program)
	for _, r := range []request{
		{kind: execCall, nr: 39},
		{kind: execCall, nr: 1, args: [6]int64{1, 0, 3}, lens: []uint64{3, 16, 0, 5000}, ptrs: []uint32{1, 0, 0, 3},
			nested: []uint64{1, 0, 8, 3, 1, 4992}, data: make([]byte, 3+16+5000)},
		{kind: execCall, lens: []uint64{8, 3}, nested: []uint64{0, 1, 0}, into: []uint64{3}, data: make([]byte, 11)},
		{kind: execCall, lens: []uint64{8, 3}, nested: []uint64{0, 1, 0}, into: []uint64{4}, data: make([]byte, 11)},
		{kind: execReadMem, lens: []uint64{64}},
		{kind: execSpawn, args: [6]int64{1, 1}, lens: []uint64{7}, data: []byte("\x00a\x00b\x00c\x00")},
		{kind: execSpawn, lens: []uint64{2, 2, 1, 1}, data: []byte("a\x00b\x00\x00\x00")},
		{kind: execCall, lens: []uint64{7}, nested: []uint64{0, 0, 0}, data: make([]byte, 7)},
		{kind: execCall, lens: []uint64{8}, nested: []uint64{0, 0, 1<<64 - 8}, data: make([]byte, 8)},
		{kind: execCall, lens: []uint64{1 << 63}, ptrs: []uint32{6, 0}},
		{kind: execCall, lens: []uint64{wire.MaxBuffer}},
		{kind: execCall, lens: []uint64{wire.MaxBuffer + 1}},
		{kind: execReadMem, lens: []uint64{wire.MaxReadMem}},
		{kind: execReadMem, lens: []uint64{wire.MaxReadMem + 1}},
		{kind: execBatch, args: [6]int64{1}},
		{kind: execBatch, args: [6]int64{1 << 40}},
		{kind: execCancel, args: [6]int64{1}},
		{kind: execFork},
		{kind: execAdopt, args: [6]int64{1}},
		{kind: execFollow},
		{kind: execFollow + 1},
	} {
		f.Add(append(r.encode(nil, 1), r.data...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), 1<<20)]
		for _, inMemory := range []bool{false, true} {
			want := decodeRequest(b)
			if inMemory && want == cutShort {
				want = refused
			}
			if got := decoder.decode(t, b, inMemory); got != want {
				t.Fatalf("the executor's decoder ended with %d (%s), want %d, in memory: %v", got, &decoder.said, want,
					inMemory)
			}
		}
	})
}

// decoder is program/testdata/decode.c.
type decoder struct {
	in   io.Writer
	out  io.Reader
	said bytes.Buffer // what the compiler's checks say
}

func startDecoder(f *testing.F, program string) *decoder {
	f.Helper()
	d := &decoder{}
	cmd := exec.Command(program)
	in, err := cmd.StdinPipe()
	if err != nil {
		f.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.Fatal(err)
	}
	cmd.Stderr = &d.said
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			f.Error(err)
		}
	})
	d.in, d.out = in, out
	return d
}

// decode returns the status with which the decoding of a request ends.
func (d *decoder) decode(t *testing.T, b []byte, inMemory bool) int {
	t.Helper()
	head := []byte{0}
	if inMemory {
		head[0] = 1
	}
	head = binary.NativeEndian.AppendUint32(head, uint32(len(b)))
	if _, err := d.in.Write(append(head, b...)); err != nil {
		t.Fatal(err)
	}
	var status [1]byte
	if _, err := io.ReadFull(d.out, status[:]); err != nil {
		t.Fatal(err)
	}
	return int(status[0])
}

// What comes of a request, as the status of program/testdata/decode.c.
const (
	accepted = 0
	refused  = 42
	cutShort = 43
)

// decodeRequest is a second decoder of requests. It returns what must come of one.
func decodeRequest(b []byte) int {
	e := binary.NativeEndian
	const head = 88
	if len(b) < head {
		return cutShort
	}
	kind, arg := e.Uint32(b[8:]), int64(e.Uint64(b[24:]))
	bufs, ptrs, nested := e.Uint32(b[72:]), e.Uint32(b[76:]), e.Uint32(b[80:])
	switch {
	case kind < execCall || kind > execFollow, bufs > wire.MaxBuffers, ptrs > wire.MaxArgs, nested > wire.MaxNested,
		kind == execReadMem && bufs != 1, kind == execSpawn && bufs != 1,
		kind == execBatch && (bufs != 0 || arg < 1 || arg > 1<<16):
		return refused
	}
	if b = b[head:]; len(b) < int(8*bufs+8*ptrs+24*nested) {
		return cutShort
	}
	limit := map[uint32]uint64{execReadMem: wire.MaxReadMem, execSpawn: execMaxTexts}[kind]
	if limit == 0 {
		limit = wire.MaxBuffer
	}
	lens := make([]uint64, bufs)
	var sum uint64
	for i := range lens {
		if lens[i] = e.Uint64(b[8*i:]); lens[i] > limit {
			return refused
		}
		sum += lens[i]
	}
	tables := b[8*bufs:]
	if data := tables[8*ptrs+24*nested:]; kind != execReadMem && uint64(len(data)) < sum {
		return cutShort
	}
	for i := range ptrs {
		if slot, buf := e.Uint32(tables[8*i:]), e.Uint32(tables[8*i+4:]); slot >= wire.MaxArgs || buf >= bufs {
			return refused
		}
	}
	tables = tables[8*ptrs:]
	for i := range nested {
		n := tables[24*i:]
		parent, child, offset, into := e.Uint32(n), e.Uint32(n[4:]), e.Uint64(n[8:]), e.Uint64(n[16:])
		if parent >= bufs || child >= bufs || lens[parent] < 8 || offset > lens[parent]-8 || into > lens[child] {
			return refused
		}
	}
	return accepted
}

// FuzzExecutorAnswer feeds the reader of answers, as both its users call it, with
// what an executor may send that a test has broken.
func FuzzExecutorAnswer(f *testing.F) {
	answer := func(id, ret, total uint64, errno uint32, data []byte) []byte {
		e := binary.NativeEndian
		b := e.AppendUint64(nil, id)
		b = e.AppendUint64(b, ret)
		b = e.AppendUint64(b, total)
		b = e.AppendUint32(b, errno)
		return append(e.AppendUint32(b, 0), data...)
	}
	f.Add(answer(1, 3, 0, 0, nil))
	f.Add(append(answer(1, 3, 5, 0, []byte("bytes")), answer(2, 1<<64-1, 0, 14, nil)...))
	f.Add(answer(7, 0, 5, 0, []byte("few")))
	f.Add(answer(7, 0, 1<<63, 0, nil))
	f.Add(answer(7, 0, execMaxAnswer, 0, make([]byte, 100)))
	f.Add([]byte("no answer"))
	f.Fuzz(func(t *testing.T, b []byte) {
		const most = 128 << 10 // what a socket holds
		b = b[:min(len(b), most)]
		for _, flags := range []int{0, unix.MSG_DONTWAIT} {
			pair, err := sys.SocketPair()
			if err != nil {
				t.Fatal(err)
			}
			if len(b) > 0 {
				if n, err := unix.Write(pair[1], b); err != nil || int(n) != len(b) {
					t.Fatal(n, err)
				}
			}
			sys.CloseNow(pair[1])
			var in answerReader
			rest := b
			for {
				a, err := in.read(pair[0], flags)
				if err != nil {
					if err == io.EOF && len(rest) >= answerSize &&
						binary.NativeEndian.Uint64(rest[16:]) <= uint64(len(rest)-answerSize) {
						t.Fatalf("an answer was lost in %x", rest)
					}
					break
				}
				n := answerSize + len(a.data)
				if n > len(rest) || a.id != binary.NativeEndian.Uint64(rest) ||
					!bytes.Equal(a.data, rest[answerSize:n]) || a.fd != -1 {
					t.Fatalf("%+v from %x", a, rest)
				}
				rest = rest[n:]
			}
			sys.CloseNow(pair[0])
		}
	})
}
