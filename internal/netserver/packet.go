package netserver

import (
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// ttl of packets that are built here.
const ttl = 64

var broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// endpoint is one end of a datagram.
type endpoint struct {
	mac  net.HardwareAddr
	addr netip.Addr
	port uint16
}

// udpPayload returns what a frame carries to a port over UDP and IPv4, or false if it is
// something else, damaged, or a fragment. The payload is part of the frame.
func udpPayload(frame []byte, port uint16) ([]byte, bool) {
	if len(frame) < header.EthernetMinimumSize || header.Ethernet(frame).Type() != header.IPv4ProtocolNumber {
		return nil, false
	}
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	if !ip.IsValid(len(ip)) || !ip.IsChecksumValid() || ip.More() || ip.FragmentOffset() != 0 ||
		ip.TransportProtocol() != header.UDPProtocolNumber {
		return nil, false
	}
	udp := header.UDP(ip.Payload())
	if len(udp) < header.UDPMinimumSize || udp.DestinationPort() != port {
		return nil, false
	}
	size := len(udp) - header.UDPMinimumSize
	lengthOK, sumOK := header.UDPValid(udp, func() uint16 { return checksum.Checksum(udp.Payload(), 0) }, uint16(size),
		header.IPv4ProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), false)
	if !lengthOK || !sumOK {
		return nil, false
	}
	return udp.Payload()[:int(udp.Length())-header.UDPMinimumSize], true
}

// udpFrame returns a frame with a datagram over IPv4.
func udpFrame(from, to endpoint, payload []byte) []byte {
	size := header.UDPMinimumSize + len(payload)
	frame := ethernetFrame(from.mac, to.mac, header.IPv4ProtocolNumber, header.IPv4MinimumSize+size)
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(header.IPv4MinimumSize + size), TTL: ttl,
		Protocol: uint8(header.UDPProtocolNumber), SrcAddr: toAddress(from.addr), DstAddr: toAddress(to.addr)})
	ip.SetChecksum(^ip.CalculateChecksum())
	udp := header.UDP(frame[header.EthernetMinimumSize+header.IPv4MinimumSize:])
	udp.Encode(&header.UDPFields{SrcPort: from.port, DstPort: to.port, Length: uint16(size)})
	copy(udp.Payload(), payload)
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, toAddress(from.addr), toAddress(to.addr), uint16(size))
	udp.SetChecksum(^udp.CalculateChecksum(checksum.Checksum(payload, sum)))
	return frame
}

// ndPayload returns the message of neighbour discovery in a frame and its source, or false
// if there is none. The message is part of the frame.
func ndPayload(frame []byte) (message []byte, from netip.Addr, ok bool) {
	if len(frame) < header.EthernetMinimumSize || header.Ethernet(frame).Type() != header.IPv6ProtocolNumber {
		return nil, netip.Addr{}, false
	}
	ip := header.IPv6(frame[header.EthernetMinimumSize:])
	if !ip.IsValid(len(ip)) || ip.TransportProtocol() != header.ICMPv6ProtocolNumber ||
		ip.HopLimit() != header.NDPHopLimit {
		return nil, netip.Addr{}, false
	}
	m := header.ICMPv6(ip.Payload())
	if len(m) < header.ICMPv6MinimumSize || m.Code() != 0 || m.Checksum() != header.ICMPv6Checksum(
		header.ICMPv6ChecksumParams{Header: m, Src: ip.SourceAddress(), Dst: ip.DestinationAddress()}) {
		return nil, netip.Addr{}, false
	}
	return m, toAddr(ip.SourceAddress()), true
}

// ndFrame returns a frame with a message of neighbour discovery.
func ndFrame(from, to endpoint, message []byte) []byte {
	frame := ethernetFrame(from.mac, to.mac, header.IPv6ProtocolNumber, header.IPv6MinimumSize+len(message))
	ip := header.IPv6(frame[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv6Fields{PayloadLength: uint16(len(message)), TransportProtocol: header.ICMPv6ProtocolNumber,
		HopLimit: header.NDPHopLimit, SrcAddr: toAddress(from.addr), DstAddr: toAddress(to.addr)})
	copy(ip.Payload(), message)
	return frame
}

// ethernetFrame returns a frame with an empty payload of a size.
func ethernetFrame(from, to net.HardwareAddr, kind tcpip.NetworkProtocolNumber, size int) []byte {
	frame := make([]byte, header.EthernetMinimumSize+size)
	header.Ethernet(frame).Encode(&header.EthernetFields{SrcAddr: tcpip.LinkAddress(from),
		DstAddr: tcpip.LinkAddress(to), Type: kind})
	return frame
}
