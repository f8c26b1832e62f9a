package packet

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
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
	{macs + "0800" + strings.Replace(v4, "45000000", "4500002d", 1) + segment + text + "0000000000",
		"10.77.0.2:80 > 10.77.0.3:4711 tcp [syn ack] 5 bytes"},
	{macs + "81002005" + "0800" + v4 + segment + text, "10.77.0.2:80 > 10.77.0.3:4711 tcp [syn ack] 5 bytes"},
	{macs + "0800" + v4 + segment[:30], "10.77.0.2 > 10.77.0.3 ip 15 bytes"},
	{macs + "0800" + strings.Replace(v4, "4000", "2001", 1) + segment, "10.77.0.2 > 10.77.0.3 ip 20 bytes"},
	{macs + "0800" + v4[:20], "02:00:00:00:00:01 > 02:00:00:00:00:02 ether 10 bytes"},
	{macs + "0800" + strings.Replace(v4, "45", "4f", 1), "02:00:00:00:00:01 > 02:00:00:00:00:02 ether 20 bytes"},
	{macs + "86dd" + v6 + "0035" + "14e9" + "000d" + "0000" + text + "ffff",
		"[fd00::2]:53 > [fd00::3]:5353 udp 5 bytes"},
	{macs + "86dd" + strings.Replace(v6, "00001140", "00000040", 1) + "1100000000000000" + "0035" + "14e9" + "000d" +
		"0000" + text, "[fd00::2]:53 > [fd00::3]:5353 udp 5 bytes"},
	{macs + "86dd" + strings.Replace(v6, "00001140", "00002c40", 1) + "1100000800000001" + "0035" + "14e9",
		"fd00::2 > fd00::3 ip6 4 bytes"},
	{macs + "86dd" + strings.Replace(v6, "00001140", "00003a40", 1) + "80000000" + "00010001",
		"fd00::2 > fd00::3 icmp6 4 bytes"},
	{macs + "0806" + "0001080006040001" + "020000000001" + "0a4d0002" + "000000000000" + "0a4d0003",
		"10.77.0.2 > 10.77.0.3 arp 0 bytes"},
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
	if len(p.VLANs) != 2 || p.VLANs[0] != 7 || p.VLANs[1] != 5 || p.EtherType != typeIPv4 ||
		string(p.Payload) != "hello" ||
		p.TTL != 64 || p.TCP.Seq != 1 || p.TCP.Ack != 2 || p.TCP.Window != 256 {
		t.Errorf("%+v", p)
	}
}

// FuzzDecode checks that the payload of hostile frames is a part of them, and their text one
// line.
func FuzzDecode(f *testing.F) {
	for _, x := range frames {
		f.Add(raw(f, x.hex))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := Decode(data)
		if len(p.Payload) > len(data) || !bytes.Contains(data, p.Payload) || p.Ports && !p.Src.IsValid() {
			t.Fatalf("%+v", p)
		}
		if text := p.String(); strings.ContainsAny(text, "\n\x00") || !strings.HasSuffix(text, " bytes") {
			t.Errorf("%q", text)
		}
	})
}

// FuzzEncoded decodes what another implementation has encoded.
func FuzzEncoded(f *testing.F) {
	f.Add(uint32(0x0a4d0002), uint32(0x0a4d0003), uint16(80), uint16(4711), []byte("data"), uint16(0), uint8(3))
	f.Add(uint32(1), uint32(2), uint16(0), uint16(0xffff), []byte{}, uint16(5), uint8(0))
	f.Fuzz(func(t *testing.T, a, b uint32, from, to uint16, payload []byte, vlan uint16, kind uint8) {
		if len(payload) > 1400 {
			return
		}
		want := Packet{Proto: "udp", IPProto: udp, TTL: 64, Ports: true, SrcPort: from, DstPort: to, Payload: payload,
			EtherSrc: net.HardwareAddr{2, 0, 0, 0, 0, 1}, EtherDst: net.HardwareAddr{2, 0, 0, 0, 0, 2}}
		transport := make([]byte, header.UDPMinimumSize, header.TCPMinimumSize+len(payload))
		if kind&1 == 0 {
			header.UDP(transport).Encode(&header.UDPFields{SrcPort: from, DstPort: to,
				Length: uint16(header.UDPMinimumSize + len(payload))})
		} else {
			want.Proto, want.IPProto = "tcp", tcp
			want.TCP = &TCP{Flags: kind >> 2, Seq: a, Ack: b, Window: vlan}
			transport = transport[:header.TCPMinimumSize]
			header.TCP(transport).Encode(&header.TCPFields{SrcPort: from, DstPort: to, SeqNum: a, AckNum: b,
				DataOffset: header.TCPMinimumSize, Flags: header.TCPFlags(kind >> 2), WindowSize: vlan})
		}
		transport = append(transport, payload...)
		frame := raw(t, macs)
		if vlan != 0 {
			frame = binary.BigEndian.AppendUint32(frame, 0x8100<<16|uint32(vlan))
			want.VLANs = []uint16{vlan & 0xfff}
		}
		if kind&2 == 0 {
			want.EtherType = typeIPv4
			want.Src, want.Dst = netip.AddrFrom4([4]byte(be32(a))), netip.AddrFrom4([4]byte(be32(b)))
			ip := make([]byte, header.IPv4MinimumSize)
			header.IPv4(ip).Encode(&header.IPv4Fields{TotalLength: uint16(len(ip) + len(transport)), TTL: 64,
				Protocol: want.IPProto, SrcAddr: tcpip.AddrFromSlice(be32(a)), DstAddr: tcpip.AddrFromSlice(be32(b))})
			transport = append(ip, transport...)
		} else {
			want.EtherType = typeIPv6
			want.Src = netip.AddrFrom16([16]byte(bytes.Repeat(be32(a), 4)))
			want.Dst = netip.AddrFrom16([16]byte(bytes.Repeat(be32(b), 4)))
			ip := make([]byte, header.IPv6MinimumSize)
			header.IPv6(ip).Encode(&header.IPv6Fields{PayloadLength: uint16(len(transport)), HopLimit: 64,
				TransportProtocol: tcpip.TransportProtocolNumber(want.IPProto),
				SrcAddr:           tcpip.AddrFromSlice(want.Src.AsSlice()),
				DstAddr:           tcpip.AddrFromSlice(want.Dst.AsSlice())})
			transport = append(ip, transport...)
		}
		frame = append(binary.BigEndian.AppendUint16(frame, want.EtherType), transport...)
		for range 2 {
			got := Decode(frame)
			if !bytes.Equal(got.Payload, payload) {
				t.Errorf("payload % x, want % x", got.Payload, payload)
			}
			got.Payload = payload
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			frame = append(frame, 0, 0, 0) // padding
		}
	})
}

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
