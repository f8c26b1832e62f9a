package network

import (
	"testing"
	"time"

	"provium/internal/pattern"
	"provium/internal/stream"
	"provium/internal/vnet"
)

func TestCaptures(t *testing.T) {
	s := newSite(t)
	a, c := s.vm("a"), s.vm("c")
	b := s.bridge("lan", nil)
	attach(t, b, "a", "c")
	from, _ := b.NIC("a", "")
	_, err := from.Capture(CaptureOpts{}, stream.Site{})
	wantError(t, err, "vm `a` has no live port on bridge `lan`")
	_, err = b.Capture(CaptureOpts{Filter: "("}, stream.Site{})
	wantError(t, err, "bridge:capture: filter `(`")
	_, err = from.Capture(CaptureOpts{Filter: "("}, stream.Site{})
	wantError(t, err, "nic:capture: filter `(`")
	a.boot(t, s)
	c.boot(t, s)
	awaitLive(t, b)
	whole, err := b.Capture(CaptureOpts{Nanoseconds: true}, stream.Site{File: "x.lua", Line: 3})
	must(t, err)
	arps, err := from.Capture(CaptureOpts{Filter: "arp"}, stream.Site{})
	must(t, err)
	if text := whole.String() + " " + arps.String(); text != "bridge_capture(lan) at x.lua:3 nic_capture(a on lan)" {
		t.Error(text)
	}
	if all := s.Captures(c); len(all) != 2 || all[0] != whole {
		t.Errorf("captures %v", all)
	}
	a.sendFrame(t, 1, textFrame(from, "hello"))
	a.sendFrame(t, 1, arp(arpRequest, broadcast, from.mac, []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}))
	c.awaitFrame(t, 1, isARP(arpRequest, []byte{10, 0, 0, 2}))
	packets, err := Packets(t.Context(), whole, 0)
	must(t, err)
	if len(packets) != 2 || !hasText("hello")(packets[0].Frame) || packets[0].Length != 19 ||
		packets[1].Proto != "arp" {
		t.Errorf("packets %+v", packets)
	}
	if n := time.Since(packets[0].At); n < 0 || n > time.Minute {
		t.Errorf("captured %v ago", n)
	}
	packets, err = Packets(t.Context(), arps, 0)
	must(t, err)
	if len(packets) != 1 || packets[0].Proto != "arp" {
		t.Errorf("packets %+v", packets)
	}
	a.sendFrame(t, 1, textFrame(from, "split here"))
	_, err = whole.ReadUntil(t.Context(), "expect", pattern.Text("split"), 10*time.Second)
	must(t, err)
	_, err = Packets(t.Context(), whole, 0)
	wantError(t, err, "the capture stands inside of a frame")
	whole.Close()
	arps.Close()
	if all := s.Captures(a); len(all) != 0 {
		t.Errorf("closed captures are listed: %v", all)
	}
	other := stream.New(stream.Config{Kind: "tail_file", Source: otherSource{captureSource{&vnet.Capture{}}}})
	_, err = Packets(t.Context(), other, 0)
	wantError(t, err, "tail_file is no capture")
}

// otherSource is a source that is not a capture.
type otherSource struct{ stream.Source }
