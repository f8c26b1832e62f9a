package vnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
	"time"
)

// FuzzFrames reads hostile streams, whole and byte by byte: both give the same.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendFrame(appendFrame(nil, []byte("one frame of some length")), []byte("x")))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 5, 1, 2})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add(appendFrame(nil, make([]byte, maxWire)))
	f.Fuzz(func(t *testing.T, stream []byte) {
		read := func(r io.Reader) (out [][]byte, err error) {
			err = readFrames(r, func(frames [][]byte) {
				for _, f := range frames {
					out = append(out, slices.Clone(f))
				}
			})
			return out, err
		}
		whole, err := read(bytes.NewReader(stream))
		bytewise, err2 := read(iotest.OneByteReader(bytes.NewReader(stream)))
		if !slices.EqualFunc(whole, bytewise, bytes.Equal) || err.Error() != err2.Error() {
			t.Fatalf("%d and %d frames; %v and %v", len(whole), len(bytewise), err, err2)
		}
		total := 0
		for _, f := range whole {
			total += prefixLen + len(f)
		}
		var bad *LengthError
		if total > len(stream) || !errors.Is(err, io.EOF) && !errors.As(err, &bad) {
			t.Fatalf("%d bytes of %d, %v", total, len(stream), err)
		}
	})
}

// FuzzSwitch feeds hostile frames to an impaired switch.
func FuzzSwitch(f *testing.F) {
	f.Add(frame(broadcast, mac(1), 1, 60), uint64(3))
	f.Add([]byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		b := newBench(t, seed, "a", "b", "c")
		for k := range kinds {
			b.s.Set(k, 30)
		}
		b.send("a", data, data)
		b.pass(100 * time.Hour)
		if b.s.held != 0 {
			t.Fatal("held for ever")
		}
		b.take("b")
	})
}

// parsePcap reads a pcap file back.
func parsePcap(p []byte) (frames [][]byte, times []time.Time, ok bool) {
	if len(p) < 24 {
		return nil, nil, false
	}
	unit := int64(1000)
	switch binary.LittleEndian.Uint32(p) {
	case pcapMicros:
	case pcapNanos:
		unit = 1
	default:
		return nil, nil, false
	}
	for p = p[24:]; len(p) > 0; {
		if len(p) < 16 {
			return frames, times, false
		}
		n := int(binary.LittleEndian.Uint32(p[8:]))
		if n > PcapSnapLen || len(p) < 16+n {
			return frames, times, false
		}
		times = append(times, time.Unix(int64(binary.LittleEndian.Uint32(p)),
			int64(binary.LittleEndian.Uint32(p[4:]))*unit))
		frames = append(frames, p[16:16+n])
		p = p[16+n:]
	}
	return frames, times, true
}

func FuzzPcap(f *testing.F) {
	f.Add([]byte("some frame"), int64(1_700_000_000_123_456_789), true)
	f.Add(make([]byte, PcapSnapLen+1), int64(0), false)
	f.Fuzz(func(t *testing.T, data []byte, ns int64, nano bool) {
		at := time.Unix(0, ns&(1<<60-1))
		file := AppendPcapFrame(AppendPcapFrame(AppendPcapHeader(nil, nano), at, data, nano), at, nil, nano)
		frames, times, ok := parsePcap(file)
		if !ok || len(frames) != 2 || !bytes.Equal(frames[0], data[:min(len(data), PcapSnapLen)]) {
			t.Fatalf("%d frames, %v", len(frames), ok)
		}
		records, err := ReadPcapFrames(file[PcapHeader:], nano)
		if err != nil || len(records) != 2 || !records[0].At.Equal(times[0]) || records[0].Length != len(data) ||
			!bytes.Equal(records[0].Frame, frames[0]) {
			t.Fatalf("%+v, %v", records, err)
		}
		if _, err := ReadPcapFrames(data, nano); err == nil && len(data)%16 != 0 && len(data) < 16 {
			t.Fatal("a piece was taken for a record")
		}
		want := at
		if !nano {
			want = at.Truncate(time.Microsecond)
		}
		if !times[0].Equal(want) {
			t.Errorf("%v, want %v", times[0], want)
		}
	})
}
