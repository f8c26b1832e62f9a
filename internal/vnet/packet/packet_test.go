package packet

import (
	"encoding/hex"
	"strings"
	"testing"
)

const (
	macs    = "020000000002" + "020000000001"
	v4      = "45000000" + "00004000" + "40060000" + "0a4d0002" + "0a4d0003"
	v6      = "60000000" + "00001140" + "fd000000000000000000000000000002" + "fd000000000000000000000000000003"
	segment = "0050" + "1267" + "00000001" + "00000002" + "5012" + "0100" + "00000000"
	text    = "68656c6c6f"
)

// frames are written in hex, with what they hold.
var frames = []struct{ hex, want string }{
	{"", " >  ether 0 bytes"},
	{macs + "88b5" + text, "02:00:00:00:00:01 > 02:00:00:00:00:02 ether 5 bytes"},
	{macs + "0800" + v4 + segment + text, "10.77.0.2:80 > 10.77.0.3:4711 tcp [syn ack] 5 bytes"},
	{macs + "0800" + strings.Replace(v4, "45000000", "4500002d", 1) + segment + text + "0000000000", "10.77.0.2:80 > 10.77.0.3:4711 tcp [syn ack] 5 bytes"},
	{macs + "81002005" + "0800" + v4 + segment + text, "10.77.0.2:80 > 10.77.0.3:4711 tcp [syn ack] 5 bytes"},
	{macs + "0800" + v4 + segment[:30], "10.77.0.2 > 10.77.0.3 ip 15 bytes"},
	{macs + "0800" + strings.Replace(v4, "4000", "2001", 1) + segment, "10.77.0.2 > 10.77.0.3 ip 20 bytes"},
	{macs + "0800" + v4[:20], "02:00:00:00:00:01 > 02:00:00:00:00:02 ether 10 bytes"},
	{macs + "0800" + strings.Replace(v4, "45", "4f", 1), "02:00:00:00:00:01 > 02:00:00:00:00:02 ether 20 bytes"},
	{macs + "86dd" + v6 + "0035" + "14e9" + "000d" + "0000" + text + "ffff", "[fd00::2]:53 > [fd00::3]:5353 udp 5 bytes"},
	{macs + "86dd" + strings.Replace(v6, "00001140", "00000040", 1) + "1100000000000000" + "0035" + "14e9" + "000d" + "0000" + text, "[fd00::2]:53 > [fd00::3]:5353 udp 5 bytes"},
	{macs + "86dd" + strings.Replace(v6, "00001140", "00002c40", 1) + "1100000800000001" + "0035" + "14e9", "fd00::2 > fd00::3 ip6 4 bytes"},
	{macs + "86dd" + strings.Replace(v6, "00001140", "00003a40", 1) + "80000000" + "00010001", "fd00::2 > fd00::3 icmp6 4 bytes"},
	{macs + "0806" + "0001080006040001" + "020000000001" + "0a4d0002" + "000000000000" + "0a4d0003", "10.77.0.2 > 10.77.0.3 arp 0 bytes"},
	{macs + "0806" + "0001080006", "02:00:00:00:00:01 > 02:00:00:00:00:02 ether 5 bytes"},
}

func raw(t testing.TB, text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	for _, f := range frames {
		p := Decode(raw(t, f.hex))
		if got := p.String(); got != f.want {
			t.Errorf("%s is %s, want %s", f.hex, got, f.want)
		}
	}
	p := Decode(raw(t, macs+"88a80007"+"81002005"+"0800"+v4+segment+text))
	if len(p.VLANs) != 2 || p.VLANs[0] != 7 || p.VLANs[1] != 5 || p.EtherType != typeIPv4 || string(p.Payload) != "hello" ||
		p.TTL != 64 || p.TCP.Seq != 1 || p.TCP.Ack != 2 || p.TCP.Window != 256 {
		t.Errorf("%+v", p)
	}
}

// FuzzDecode cuts hostile frames short.
func FuzzDecode(f *testing.F) {
	for _, x := range frames {
		f.Add(raw(f, x.hex))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := Decode(data)
		_ = p.String()
		if len(p.Payload) > len(data) || p.Ports && !p.Src.IsValid() {
			t.Fatalf("%+v", p)
		}
	})
}
