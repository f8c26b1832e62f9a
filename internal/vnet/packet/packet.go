// Package packet decodes the parts of an Ethernet frame that a test asks for: addresses,
// protocol, ports, flags and payload. Every byte is treated as hostile.
//
// It verifies no checksum and does not reassemble fragments.
package packet

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// Packet is a frame that was looked into. What it does not have is zero.
type Packet struct {
	EtherSrc, EtherDst net.HardwareAddr
	VLANs              []uint16 // outer one first
	EtherType          uint16

	// Proto is the innermost protocol that was understood: "tcp", "udp", "icmp",
	// "icmp6", "arp", "sctp", "ip" and "ip6" with another one inside, and "ether".
	Proto    string
	Src, Dst netip.Addr // of IP or ARP
	IPProto  uint8      // number of what IP carries
	TTL      uint8      // or hop limit
	Fragment bool       // a piece of a packet; without the first one there are no ports

	Ports            bool // SrcPort and DstPort are there
	SrcPort, DstPort uint16

	TCP *TCP
	// Type and Code are of ICMP, Operation is of ARP.
	ICMP       bool
	Type, Code uint8
	Operation  uint16

	// Payload is what is behind the innermost header, without the padding of short
	// frames.
	Payload []byte
}

// TCP has what is special to it.
type TCP struct {
	Flags    uint8 // fin 1, syn 2, rst 4, psh 8, ack 16, urg 32, ece 64, cwr 128
	Seq, Ack uint32
	Window   uint16
}

// The numbers of protocols.
const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeIPv6 = 0x86dd

	hopByHop    = 0
	icmp        = 1
	tcp         = 6
	udp         = 17
	routing     = 43
	fragment    = 44
	icmp6       = 58
	noNext      = 59
	destination = 60
	sctp        = 132
)

// Decode looks into a frame. What ends too early, or lies about its length, is
// described as far as it goes.
func Decode(b []byte) Packet {
	p := Packet{Proto: "ether"}
	if len(b) < 14 {
		p.Payload = b
		return p
	}
	p.EtherDst, p.EtherSrc = net.HardwareAddr(b[:6]), net.HardwareAddr(b[6:12])
	b = b[12:]
	for {
		p.EtherType = binary.BigEndian.Uint16(b)
		b = b[2:]
		if p.EtherType != 0x8100 && p.EtherType != 0x88a8 && p.EtherType != 0x9100 || len(b) < 4 {
			break
		}
		p.VLANs = append(p.VLANs, binary.BigEndian.Uint16(b)&0xfff)
		b = b[2:]
	}
	p.Payload = b
	switch p.EtherType {
	case typeIPv4:
		p.ipv4(b)
	case typeIPv6:
		p.ipv6(b)
	case typeARP:
		p.arp(b)
	}
	return p
}

func (p *Packet) arp(b []byte) {
	// Ethernet and IPv4 are the only kind there is.
	if len(b) < 28 || string(b[:6]) != "\x00\x01\x08\x00\x06\x04" {
		return
	}
	p.Proto, p.Operation = "arp", binary.BigEndian.Uint16(b[6:])
	p.Src, p.Dst = netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
	p.Payload = nil
}

func (p *Packet) ipv4(b []byte) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || header > len(b) {
		return
	}
	p.Proto, p.TTL, p.IPProto = "ip", b[8], b[9]
	p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	if total >= header && total < len(b) { // padding; 0 comes from segmentation offload
		b = b[:total]
	}
	pieces := binary.BigEndian.Uint16(b[6:])
	p.Fragment = pieces&0x3fff != 0
	p.Payload = b[header:]
	if pieces&0x1fff == 0 {
		p.transport()
	}
}

func (p *Packet) ipv6(b []byte) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return
	}
	p.Proto, p.IPProto, p.TTL = "ip6", b[6], b[7]
	p.Src, p.Dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	if total := 40 + int(binary.BigEndian.Uint16(b[4:])); total > 40 && total < len(b) {
		b = b[:total]
	}
	b = b[40:]
	for {
		p.Payload = b
		size := 8
		switch p.IPProto {
		case hopByHop, routing, destination:
			if len(b) >= 2 {
				size += 8 * int(b[1])
			}
		case fragment:
			if len(b) >= size {
				p.Fragment = true
				if binary.BigEndian.Uint16(b[2:])&^7 != 0 {
					p.IPProto, p.Payload = b[0], b[size:]
					return
				}
			}
		case noNext:
			return
		default:
			p.transport()
			return
		}
		if len(b) < size {
			return
		}
		p.IPProto, b = b[0], b[size:]
	}
}

// transport looks into what IP carries.
func (p *Packet) transport() {
	b := p.Payload
	ports := func(name string, header int) {
		p.Proto, p.Ports = name, true
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		p.Payload = b[header:]
	}
	switch p.IPProto {
	case tcp:
		if len(b) < 20 {
			return
		}
		header := int(b[12]>>4) * 4
		if header < 20 || header > len(b) {
			return
		}
		ports("tcp", header)
		p.TCP = &TCP{Flags: b[13], Seq: binary.BigEndian.Uint32(b[4:]), Ack: binary.BigEndian.Uint32(b[8:]),
			Window: binary.BigEndian.Uint16(b[14:])}
	case udp:
		if len(b) < 8 {
			return
		}
		ports("udp", 8)
		if n := int(binary.BigEndian.Uint16(b[4:])); n >= 8 && n < len(b) {
			p.Payload = b[8:n]
		}
	case sctp:
		if len(b) >= 12 {
			ports("sctp", 12)
		}
	case icmp, icmp6:
		if len(b) < 4 || (p.IPProto == icmp) != p.Src.Is4() {
			return
		}
		p.Proto = "icmp"
		if p.IPProto == icmp6 {
			p.Proto = "icmp6"
		}
		p.ICMP, p.Type, p.Code, p.Payload = true, b[0], b[1], b[4:]
	}
}

// flagNames are the flags of TCP, lowest bit first.
var flagNames = [...]string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"}

// FlagNames lists the flags that are set.
func (t *TCP) FlagNames() (names []string) {
	for i, name := range flagNames {
		if t.Flags>>i&1 != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String returns the packet in a line: "10.0.0.1:80 > 10.0.0.2:4711 tcp [syn ack] 5 bytes".
func (p *Packet) String() string {
	end := func(a netip.Addr, port uint16, mac net.HardwareAddr) string {
		switch {
		case !a.IsValid():
			return mac.String()
		case p.Ports:
			return netip.AddrPortFrom(a, port).String()
		}
		return a.String()
	}
	text := fmt.Sprintf("%s > %s %s", end(p.Src, p.SrcPort, p.EtherSrc), end(p.Dst, p.DstPort, p.EtherDst), p.Proto)
	if p.TCP != nil {
		text += fmt.Sprintf(" %v", p.TCP.FlagNames())
	}
	return fmt.Sprintf("%s %d bytes", text, len(p.Payload))
}
