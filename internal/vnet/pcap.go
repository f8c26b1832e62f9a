package vnet

import (
	"encoding/binary"
	"fmt"
	"time"
)

// The pcap file format, https://www.tcpdump.org/manpages/pcap-savefile.5.html
const (
	pcapMicros   = 0xa1b2c3d4
	pcapNanos    = 0xa1b23c4d
	pcapMajor    = 2
	pcapMinor    = 4
	pcapEthernet = 1
	// PcapSnapLen is the most that is kept of a frame, in bytes.
	PcapSnapLen = 65535

	pcapRecord = 16 // bytes before each frame

	// PcapHeader is the number of bytes that AppendPcapHeader adds.
	PcapHeader = 24
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

// Record is a frame of a capture.
type Record struct {
	At     time.Time
	Frame  []byte
	Length int // on the wire; more than len(Frame) if that was cut
}

// ReadPcapFrames reads what AppendPcapFrame has written, without the header of the
// file. The frames are parts of b.
func ReadPcapFrames(b []byte, nanoseconds bool) ([]Record, error) {
	unit := int64(1000)
	if nanoseconds {
		unit = 1
	}
	var all []Record
	for len(b) > 0 {
		if len(b) < pcapRecord {
			return all, fmt.Errorf("pcap record: %d bytes of its header are there", len(b))
		}
		kept, length := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
		if kept > PcapSnapLen || int(kept) > len(b)-pcapRecord {
			return all, fmt.Errorf("pcap record: %d bytes announced, %d are there", kept, len(b)-pcapRecord)
		}
		at := time.Unix(int64(binary.LittleEndian.Uint32(b)), int64(binary.LittleEndian.Uint32(b[4:]))*unit)
		end := pcapRecord + int(kept)
		all = append(all, Record{at, b[pcapRecord:end:end], int(length)})
		b = b[end:]
	}
	return all, nil
}
