package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Numbers of the protocol, under the names that its specification uses.
const (
	magicServer     = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption     = 0x49484156454f5054 // "IHAVEOPT"
	magicOptReply   = 0x0003e889045565a9
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef

	flagFixedNewstyle  = 1 << 0
	flagNoZeroes       = 1 << 1
	cFlagFixedNewstyle = 1 << 0
	cFlagNoZeroes      = 1 << 1

	optExportName      = 1
	optAbort           = 2
	optList            = 3
	optInfo            = 6
	optGo              = 7
	optStructuredReply = 8
	optListMeta        = 9
	optSetMeta         = 10

	repAck        = 1
	repServer     = 2
	repInfo       = 3
	repMeta       = 4
	repErrUnsup   = 1<<31 + 1
	repErrInvalid = 1<<31 + 3
	repErrUnknown = 1<<31 + 6
	repErrTooBig  = 1<<31 + 9

	infoExport    = 0
	infoBlockSize = 3

	tFlagHasFlags  = 1 << 0
	tFlagReadOnly  = 1 << 1
	tFlagFlush     = 1 << 2
	tFlagFUA       = 1 << 3
	tFlagTrim      = 1 << 5
	tFlagZeroes    = 1 << 6
	tFlagDF        = 1 << 7
	tFlagFastZero  = 1 << 11
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdZeroes      = 6
	cmdBlockStatus = 7
	cmdFlagFUA     = 1 << 0
	cmdFlagNoHole  = 1 << 1
	cmdFlagDF      = 1 << 2
	cmdFlagReqOne  = 1 << 3
	cmdFlagFast    = 1 << 4

	chunkFlagDone    = 1 << 0
	chunkNone        = 0
	chunkOffsetData  = 1
	chunkOffsetHole  = 2
	chunkBlockStatus = 5
	chunkError       = 1<<15 + 1

	stateHole = 1 << 0
	stateZero = 1 << 1

	errnoPerm     = 1
	errnoIO       = 5
	errnoInval    = 22
	errnoNoSpace  = 28
	errnoNotSup   = 95
	errnoShutdown = 108

	// maxRequest is the largest read or write, in bytes.
	maxRequest = 32 << 20

	// maxOption caps the payload of an option: a name of 4096 bytes, the longest
	// that the protocol permits, and room for other data.
	maxOption = 64 << 10
	maxName   = 4096

	contextName = "base:allocation"
	contextID   = 1
)

// ErrProtocol is returned when the other side breaks the protocol in a way that ends
// the connection.
var ErrProtocol = errors.New("nbd protocol violation")

// violation returns an error that wraps ErrProtocol.
func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// command is a request of the transmission phase, its payload not included.
type command struct {
	flags  uint16
	kind   uint16
	cookie uint64
	off    uint64
	n      uint32
}

const commandSize = 28 // bytes

// append appends the encoded command to p.
func (c command) append(p []byte) []byte {
	be := binary.BigEndian
	p = be.AppendUint32(p, magicRequest)
	p = be.AppendUint16(p, c.flags)
	p = be.AppendUint16(p, c.kind)
	p = be.AppendUint64(p, c.cookie)
	p = be.AppendUint64(p, c.off)
	return be.AppendUint32(p, c.n)
}

func decodeCommand(p []byte) (command, error) {
	be := binary.BigEndian
	if len(p) != commandSize || be.Uint32(p) != magicRequest {
		return command{}, violation("no request magic")
	}
	return command{be.Uint16(p[4:]), be.Uint16(p[6:]), be.Uint64(p[8:]), be.Uint64(p[16:]), be.Uint32(p[24:])}, nil
}

// option is a request of the handshake.
type option struct {
	kind uint32
	data []byte
}

// append appends the encoded option to p.
func (o option) append(p []byte) []byte {
	be := binary.BigEndian
	p = be.AppendUint64(p, magicOption)
	p = be.AppendUint32(p, o.kind)
	p = be.AppendUint32(p, uint32(len(o.data)))
	return append(p, o.data...)
}

// errOptionTooBig is returned for an option that was skipped because of its length.
var errOptionTooBig = errors.New("nbd option is too long")

// readOption reads one option. With errOptionTooBig only its kind is valid, and the
// next option can be read.
func readOption(r io.Reader) (option, error) {
	var h [16]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return option{}, err
	}
	be := binary.BigEndian
	if be.Uint64(h[:]) != magicOption {
		return option{}, violation("no option magic")
	}
	o := option{kind: be.Uint32(h[8:])}
	n := be.Uint32(h[12:])
	switch {
	case n > maxRequest:
		return o, violation("option of %d bytes", n)
	case n > maxOption:
		if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
			return o, err
		}
		return o, errOptionTooBig
	}
	o.data = make([]byte, n)
	_, err := io.ReadFull(r, o.data)
	return o, err
}

// appendString appends s with a 32-bit length to p.
func appendString(p []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(p, uint32(len(s))), s...)
}

// takeString cuts a string with a 32-bit length off p.
func takeString(p []byte) (s string, rest []byte, err error) {
	if len(p) < 4 {
		return "", nil, errors.New("the option ends early")
	}
	n := binary.BigEndian.Uint32(p)
	if n > maxName || int(n) > len(p)-4 {
		return "", nil, fmt.Errorf("a string of %d bytes in an option of %d", n, len(p))
	}
	return string(p[4 : 4+n]), p[4+n:], nil
}

// encodeGo returns the data of INFO and GO.
func encodeGo(name string, infos ...uint16) []byte {
	p := appendString(nil, name)
	p = binary.BigEndian.AppendUint16(p, uint16(len(infos)))
	for _, i := range infos {
		p = binary.BigEndian.AppendUint16(p, i)
	}
	return p
}

// decodeGo decodes the data of INFO and GO.
func decodeGo(p []byte) (name string, infos []uint16, err error) {
	name, p, err = takeString(p)
	if err != nil {
		return "", nil, err
	}
	if len(p) < 2 || len(p) != 2+2*int(binary.BigEndian.Uint16(p)) {
		return "", nil, errors.New("the list of information has another length than it says")
	}
	for p = p[2:]; len(p) > 0; p = p[2:] {
		infos = append(infos, binary.BigEndian.Uint16(p))
	}
	return name, infos, nil
}

// encodeMeta returns the data of LIST_META_CONTEXT and SET_META_CONTEXT.
func encodeMeta(name string, queries ...string) []byte {
	p := appendString(nil, name)
	p = binary.BigEndian.AppendUint32(p, uint32(len(queries)))
	for _, q := range queries {
		p = appendString(p, q)
	}
	return p
}

// decodeMeta decodes the data of LIST_META_CONTEXT and SET_META_CONTEXT.
func decodeMeta(p []byte) (name string, queries []string, err error) {
	name, p, err = takeString(p)
	if err != nil {
		return "", nil, err
	}
	if len(p) < 4 {
		return "", nil, errors.New("the option ends early")
	}
	count := binary.BigEndian.Uint32(p)
	p = p[4:]
	if int64(count) > int64(len(p)/4) {
		return "", nil, fmt.Errorf("%d queries in %d bytes", count, len(p))
	}
	for range count {
		var q string
		if q, p, err = takeString(p); err != nil {
			return "", nil, err
		}
		queries = append(queries, q)
	}
	if len(p) > 0 {
		return "", nil, errors.New("there are bytes behind the queries")
	}
	return name, queries, nil
}
