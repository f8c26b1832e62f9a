package uplink

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/vnet/gateway"
)

// quotes keeps the starts of packets that may have to be refused later: an error quotes
// the packet, and a guest ignores errors without. Its zero value is ready.
type quotes struct {
	mu    sync.Mutex
	kept  map[flow][]byte
	order []flow // of keeping, the oldest first
}

const (
	// maxQuotes is the number that is kept. The oldest are dropped.
	maxQuotes = 2 * maxFlows
	// quoteSize is how much follows the header of IPv6 or IPv4 with options.
	quoteSize = 80

	protoTCP = 6
	protoUDP = 17
)

// note keeps the start of a packet that may be refused.
func (q *quotes) note(packet []byte) {
	f, ok := begins(packet)
	if !ok {
		return
	}
	start := append([]byte(nil), packet[:min(len(packet), quoteSize)]...)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.kept == nil {
		q.kept = map[flow][]byte{}
	}
	if _, there := q.kept[f]; !there {
		for len(q.order) >= maxQuotes {
			delete(q.kept, q.order[0])
			q.order = q.order[1:]
		}
		q.order = append(q.order, f)
	}
	q.kept[f] = start
}

func (q *quotes) of(f flow) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.kept[f]
}

// begins returns the flow of a packet that may be refused: any of UDP, or the first one
// of TCP. It returns false for packets with extension headers.
func begins(b []byte) (f flow, ok bool) {
	if len(b) < 20 {
		return f, false
	}
	at := int(b[0]&15) * 4
	f.proto = b[9]
	var src, dst netip.Addr
	switch {
	case b[0]>>4 == 6 && len(b) >= 40:
		at, f.proto = 40, b[6]
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	case b[0]>>4 == 4 && at >= 20 && binary.BigEndian.Uint16(b[6:])&0x1fff == 0:
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	default:
		return f, false
	}
	if len(b) < at+8 || f.proto != protoUDP && f.proto != protoTCP ||
		f.proto == protoTCP && (len(b) < at+14 || b[at+13]&0x12 != 0x02) { // a SYN without an ACK
		return f, false
	}
	f.from = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b[at:]))
	f.to = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[at+2:]))
	return f, true
}

// refuse tells a guest why its flow is not carried, and reports whether that was
// possible. It is not for a connection that its peer refused.
func (s *Stack) refuse(f flow, err error) bool {
	start := s.quotes.of(f)
	if start == nil {
		return false
	}
	why, ok := reason(err)
	if ok {
		s.cfg.Refuse(start, why)
	}
	return ok
}

// reason returns the reason that a guest is told for an error of the host's sockets.
func reason(err error) (gateway.Reason, bool) {
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.EADDRNOTAVAIL),
		errors.Is(err, unix.EAFNOSUPPORT):
		return gateway.NoNetwork, true
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EHOSTDOWN), errors.Is(err, unix.ETIMEDOUT),
		errors.Is(err, os.ErrDeadlineExceeded):
		return gateway.NoHost, true
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EINVAL):
		return gateway.Prohibited, true
	}
	return 0, false
}
