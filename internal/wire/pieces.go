package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"golang.org/x/sys/unix"
)

// A file with holes is sent as pieces, one behind the other: 8 bytes of offset, 4 bytes
// of length, the bytes. Offsets only grow, and what no piece covers are holes. A piece
// without bytes, at the file's size, is the last one.

// PieceHeader is the length of a piece's header.
const PieceHeader = 12

// PutPiece encodes the header of a piece.
func PutPiece(b []byte, offset int64, n int) {
	binary.BigEndian.PutUint64(b, uint64(offset))
	binary.BigEndian.PutUint32(b[8:], uint32(n))
}

// Pieces decodes the pieces of a file from a stream. Its zero value is ready.
type Pieces struct {
	header [PieceHeader]byte
	have   int   // bytes of the header
	at     int64 // where the next byte belongs
	left   int64 // bytes of the piece that are still to come
	ended  bool
}

// Feed decodes the next bytes of the stream and hands those of the file to data, with
// their offset.
func (d *Pieces) Feed(p []byte, data func(offset int64, p []byte) error) error {
	for len(p) > 0 {
		if d.ended {
			return malformed("%d bytes behind the last piece", len(p))
		}
		if d.left > 0 {
			n := int(min(d.left, int64(len(p))))
			if err := data(d.at, p[:n]); err != nil {
				return err
			}
			d.at, d.left, p = d.at+int64(n), d.left-int64(n), p[n:]
			continue
		}
		n := copy(d.header[d.have:], p)
		d.have, p = d.have+n, p[n:]
		if d.have < PieceHeader {
			return nil
		}
		d.have = 0
		offset := binary.BigEndian.Uint64(d.header[:])
		length := int64(binary.BigEndian.Uint32(d.header[8:]))
		if offset > math.MaxInt64 || int64(offset) < d.at || length > math.MaxInt64-int64(offset) {
			return malformed("a piece of %d bytes at %d, behind %d bytes", length, offset, d.at)
		}
		d.at, d.left, d.ended = int64(offset), length, length == 0
	}
	return nil
}

// Size returns the size of the file. It fails before the last piece.
func (d *Pieces) Size() (int64, error) {
	if !d.ended {
		return 0, malformed("the last piece is missing, %d bytes are there", d.at)
	}
	return d.at, nil
}

// DataReader reads a file and skips its holes.
type DataReader struct {
	f     io.ReadSeeker
	holes bool  // the file system may be asked for them
	at    int64 // where the next read is
	until int64 // end of the data around at
}

// NewDataReader returns a reader that begins at the start of f. Without holes it asks for
// none and needs no Seek, as for what is not a regular file.
func NewDataReader(f io.ReadSeeker, holes bool) *DataReader {
	r := &DataReader{f: f, holes: holes, until: math.MaxInt64}
	if holes {
		r.until = 0
	}
	return r
}

// Next reads data into p and returns their offset. At the end it returns io.EOF and the
// size of the file.
func (r *DataReader) Next(p []byte) (offset int64, n int, err error) {
	if r.at == r.until {
		if err := r.skip(); err != nil {
			return r.at, 0, err
		}
	}
	offset = r.at
	n, err = r.f.Read(p[:min(int64(len(p)), r.until-r.at)])
	r.at += int64(n)
	switch {
	case n > 0:
		return offset, n, nil
	case err == nil || err == io.EOF:
		return r.at, 0, io.EOF // also of a file that was cut meanwhile
	}
	return r.at, 0, err
}

// skip moves to the next data. It returns io.EOF when there are no more.
func (r *DataReader) skip() error {
	data, err := r.f.Seek(r.at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		size, err := r.f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		r.at = max(r.at, size)
		return io.EOF
	case err != nil && r.at == 0: // a file system that does not know
		r.until = math.MaxInt64
		return nil
	case err != nil:
		return err
	}
	hole, err := r.f.Seek(data, unix.SEEK_HOLE)
	if err == nil {
		_, err = r.f.Seek(data, io.SeekStart)
	}
	if err != nil {
		return err
	}
	if data < r.at || hole <= data {
		return fmt.Errorf("the kernel says that there are data from %d to %d, behind %d bytes", data, hole, r.at)
	}
	r.at, r.until = data, hole
	return nil
}
