package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"time"
)

// terms are what client and server agreed on.
type terms struct {
	inOrder    bool // see InOrder
	atRandom   bool // see AtRandom
	structured bool // replies to reads are structured
	status     bool // base:allocation was selected
}

// Names of the export that say how it is served.
const (
	// InOrder has requests be answered in their order, also where some are delayed: the others wait.
	InOrder = "in-order"
	// AtRandom is InOrder with delays of up to maxAtRandom, to show that they make no difference to a client.
	AtRandom = "at-random"
)

const maxAtRandom = 3 * time.Millisecond

// errAborted is returned when the client ends the handshake, which it may do.
var errAborted = errors.New("nbd client aborted the handshake")

// handshake negotiates with a client up to the transmission phase. There is one
// export, and every name means it; some say how it is served, see InOrder.
func (s *session) handshake() error {
	be := binary.BigEndian
	hello := be.AppendUint64(nil, magicServer)
	hello = be.AppendUint64(hello, magicOption)
	hello = be.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if _, err := s.conn.Write(hello); err != nil {
		return err
	}
	var word [4]byte
	if _, err := io.ReadFull(s.r, word[:]); err != nil {
		return err
	}
	flags := be.Uint32(word[:])
	if flags&^(cFlagFixedNewstyle|cFlagNoZeroes) != 0 || flags&cFlagFixedNewstyle == 0 {
		return violation("client flags %#x", flags)
	}
	for {
		o, err := readOption(s.r)
		if err != nil && !errors.Is(err, errOptionTooBig) {
			return err
		}
		if err != nil {
			if o.kind == optExportName {
				return violation("export name of more than %d bytes", maxOption)
			}
			err = s.reply(o.kind, repErrTooBig, nil)
		} else if o.kind == optExportName {
			return s.exportName(flags&cFlagNoZeroes == 0)
		} else {
			var begin bool
			if begin, err = s.negotiate(o); begin {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// exportName answers the option of old clients that ends the handshake.
func (s *session) exportName(zeroes bool) error {
	p := binary.BigEndian.AppendUint64(nil, uint64(s.disk.Size()))
	p = binary.BigEndian.AppendUint16(p, s.transmissionFlags())
	if zeroes {
		p = append(p, make([]byte, 124)...)
	}
	_, err := s.conn.Write(p)
	return err
}

// negotiate answers an option, and reports whether the handshake has ended.
func (s *session) negotiate(o option) (begin bool, err error) {
	be := binary.BigEndian
	refuse := func(err error) (bool, error) { return false, s.reply(o.kind, repErrInvalid, []byte(err.Error())) }
	if slices.Contains([]uint32{optAbort, optList, optStructuredReply}, o.kind) && len(o.data) > 0 {
		return refuse(errors.New("the option takes no data"))
	}
	switch o.kind {
	case optAbort:
		return true, errors.Join(s.reply(o.kind, repAck, nil), errAborted)
	case optList:
		err = s.reply(o.kind, repServer, be.AppendUint32(nil, 0)) // the name ""
	case optStructuredReply:
		s.terms.structured = true
	case optListMeta, optSetMeta:
		_, queries, bad := decodeMeta(o.data)
		if bad == nil && !s.terms.structured {
			bad = errors.New("structured replies come first")
		}
		if bad != nil {
			return refuse(bad)
		}
		offered := slices.Contains(queries, contextName) ||
			o.kind == optListMeta && (len(queries) == 0 || slices.Contains(queries, "base:"))
		if o.kind == optSetMeta {
			s.terms.status = offered
		}
		if offered {
			err = s.reply(o.kind, repMeta, append(be.AppendUint32(nil, contextID), contextName...))
		}
	case optInfo, optGo:
		name, infos, bad := decodeGo(o.data)
		if bad != nil {
			return refuse(bad)
		}
		s.terms.atRandom = name == AtRandom
		s.terms.inOrder = name == InOrder || s.terms.atRandom
		p := be.AppendUint16(nil, infoExport)
		p = be.AppendUint64(p, uint64(s.disk.Size()))
		err = s.reply(o.kind, repInfo, be.AppendUint16(p, s.transmissionFlags()))
		if err == nil && slices.Contains(infos, infoBlockSize) {
			p = be.AppendUint16(nil, infoBlockSize)
			for _, n := range []uint32{BlockSize, 4096, maxRequest} {
				p = be.AppendUint32(p, n)
			}
			err = s.reply(o.kind, repInfo, p)
		}
		begin = o.kind == optGo
	default:
		return false, s.reply(o.kind, repErrUnsup, nil)
	}
	if err != nil {
		return true, err
	}
	return begin, s.reply(o.kind, repAck, nil)
}

// transmissionFlags returns what the export can do.
func (s *session) transmissionFlags() uint16 {
	f := uint16(tFlagHasFlags | tFlagDF)
	if s.disk.ReadOnly() {
		return f | tFlagReadOnly
	}
	return f | tFlagFlush | tFlagFUA | tFlagTrim | tFlagZeroes | tFlagFastZero
}

// reply sends one reply to an option.
func (s *session) reply(option, kind uint32, data []byte) error {
	be := binary.BigEndian
	p := be.AppendUint64(nil, magicOptReply)
	p = be.AppendUint32(p, option)
	p = be.AppendUint32(p, kind)
	p = be.AppendUint32(p, uint32(len(data)))
	_, err := s.conn.Write(append(p, data...))
	return err
}

// readBuffer is the size of the buffer for reading from a connection, in bytes.
const readBuffer = 256 << 10

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, readBuffer) }
