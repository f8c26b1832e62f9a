package vnet

import (
	"encoding/binary"
	"time"
)

// The pcap file format, https://www.tcpdump.org/manpages/pcap-savefile.5.html
const (
	pcapMicros   = 0xa1b2c3d4
	pcapNanos    = 0xa1b23c4d
	pcapMajor    = 2
	pcapMinor    = 4
	pcapEthernet = 1
	// PcapSnapLen is how much of a frame is kept, in bytes.
	PcapSnapLen = 65535

	pcapRecord = 16 // bytes before each frame
)

// AppendPcapHeader adds the beginning of a pcap file.
func AppendPcapHeader(b []byte, nanoseconds bool) []byte {
	magic := uint32(pcapMicros)
	if nanoseconds {
		magic = pcapNanos
	}
	b = binary.LittleEndian.AppendUint32(b, magic)
	b = binary.LittleEndian.AppendUint16(b, pcapMajor)
	b = binary.LittleEndian.AppendUint16(b, pcapMinor)
	b = binary.LittleEndian.AppendUint64(b, 0) // time zone and accuracy, by tradition 0
	b = binary.LittleEndian.AppendUint32(b, PcapSnapLen)
	return binary.LittleEndian.AppendUint32(b, pcapEthernet)
}

// AppendPcapFrame adds a frame to a pcap file.
func AppendPcapFrame(b []byte, at time.Time, frame []byte, nanoseconds bool) []byte {
	fraction := at.Nanosecond()
	if !nanoseconds {
		fraction /= 1000
	}
	kept := frame[:min(len(frame), PcapSnapLen)]
	b = binary.LittleEndian.AppendUint32(b, uint32(at.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(fraction))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(kept)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frame)))
	return append(b, kept...)
}
