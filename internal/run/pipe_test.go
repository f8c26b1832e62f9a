package run

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"provium/internal/admission"
	"provium/internal/config"
)

func messages() []*message {
	cmdline := "quiet"
	return []*message{
		{Job: &job{Path: "a.test.lua",
			Profiles: map[string]config.Profile{"p": {Name: "p", Cmdline: &cmdline,
				Disks: []config.Disk{{ID: "d", Scratch: 1 << 40}}}}, Seed: 1 << 63}},
		{Answer: &answer{ID: 7, Err: "no"}},
		{Interrupt: &stopNow{Reason: "r", Status: "timed_out"}},
		{Events: []encodedEvent{{Kind: "k", Payload: []byte{0, 1, 0xff}}, {Kind: "l", Payload: []byte{1}}}},
		{Registered: &registered{Tests: []string{"ä", ""}}},
		{Acquire: &acquire{ID: 1, What: "vm `v`", Shares: []admission.Share{{Memory: 1 << 40, CPUs: 3}}}},
		{Release: &release{ID: 1 << 60}},
		{Done: &done{ChunkError: "x", Poisoned: true, Duration: time.Second}},
	}
}

func TestMessagesSurviveThePipe(t *testing.T) {
	for _, m := range messages() {
		var buf bytes.Buffer
		p := newMessagePipe(&buf, &buf)
		if err := p.send(m); err != nil {
			t.Fatal(err)
		}
		got, err := p.receive()
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("sent %+v, got %+v, %v", m, got, err)
		}
	}
}

func TestPipeEndsAndLies(t *testing.T) {
	if _, err := readMessage(strings.NewReader("")); err != io.EOF {
		t.Errorf("empty: %v", err)
	}
	if _, err := readMessage(strings.NewReader("\x00\x00")); err != io.EOF {
		t.Errorf("half a length: %v", err)
	}
	if _, err := readMessage(strings.NewReader("\x00\x00\x00\x09abc")); err != io.EOF {
		t.Errorf("cut message: %v", err)
	}
	if _, err := readMessage(strings.NewReader("\xff\xff\xff\xff")); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("too long: %v", err)
	}
}

func FuzzReadMessage(f *testing.F) {
	add := func(body []byte) {
		f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	}
	add([]byte{0x80})
	add([]byte{0x81, 0xa4, 'D', 'o', 'n', 'e', 0xc0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	for _, m := range messages() {
		var b bytes.Buffer
		if err := newMessagePipe(&b, &b).send(m); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readMessage(bytes.NewReader(b))
		if err != nil {
			return
		}
		var once, twice bytes.Buffer
		if err := newMessagePipe(nil, &once).send(m); err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		again, err := readMessage(bytes.NewReader(once.Bytes()))
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if err := newMessagePipe(nil, &twice).send(again); err != nil || !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Errorf("%x became %x, %v", once.Bytes(), twice.Bytes(), err)
		}
	})
}
