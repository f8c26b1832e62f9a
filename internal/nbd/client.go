package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
)

// Client uses the default export of a server, for instance of a program that knows
// the format of an image. It makes one request at a time, and is safe for concurrent
// use.
type Client struct {
	conn  net.Conn
	r     *bufio.Reader
	size  int64
	flags uint16 // of the transmission phase
	terms terms

	mu     sync.Mutex
	cookie uint64
	err    error // why the connection cannot be used any more
}

// clientRequest is the largest read or write of a Client, in bytes.
const clientRequest = 4 << 20

// NewClient makes the handshake on conn, which it owns from then on.
func NewClient(conn net.Conn) (*Client, error) {
	c := &Client{conn: conn, r: newReader(conn)}
	if err := c.handshake(); err != nil {
		return nil, errors.Join(fmt.Errorf("nbd handshake: %w", err), conn.Close())
	}
	return c, nil
}

func (c *Client) handshake() error {
	be := binary.BigEndian
	var hello [18]byte
	if _, err := io.ReadFull(c.r, hello[:]); err != nil {
		return err
	}
	flags := be.Uint16(hello[16:])
	if be.Uint64(hello[:]) != magicServer || be.Uint64(hello[8:]) != magicOption || flags&flagFixedNewstyle == 0 {
		return violation("no greeting of a fixed newstyle server")
	}
	if _, err := c.conn.Write(be.AppendUint32(nil, cFlagFixedNewstyle|uint32(flags&flagNoZeroes))); err != nil {
		return err
	}
	ok, err := c.option(optStructuredReply, nil, nil)
	if err != nil {
		return err
	}
	c.terms.structured = ok
	if ok {
		_, err = c.option(optSetMeta, encodeMeta("", contextName), func(kind uint32, p []byte) error {
			if kind == repMeta && len(p) >= 4 && string(p[4:]) == contextName {
				c.terms.status = true // the only one, whatever its number
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	known := false
	ok, err = c.option(optGo, encodeGo(""), func(kind uint32, p []byte) error {
		if kind == repInfo && len(p) == 12 && be.Uint16(p) == infoExport {
			c.size, c.flags, known = int64(be.Uint64(p[2:])), be.Uint16(p[10:]), true
		}
		return nil
	})
	if err == nil && (!ok || !known) {
		err = errors.New("the server does not offer a default export")
	}
	return err
}

// option sends an option and calls each for its replies. It reports whether the
// server agreed.
func (c *Client) option(kind uint32, data []byte, each func(kind uint32, p []byte) error) (bool, error) {
	if _, err := c.conn.Write(option{kind, data}.append(nil)); err != nil {
		return false, err
	}
	be := binary.BigEndian
	for range maxReplies {
		var h [20]byte
		if _, err := io.ReadFull(c.r, h[:]); err != nil {
			return false, err
		}
		reply, n := be.Uint32(h[12:]), be.Uint32(h[16:])
		if be.Uint64(h[:]) != magicOptReply || be.Uint32(h[8:]) != kind || n > maxOption {
			return false, violation("reply to option %d", kind)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(c.r, body); err != nil {
			return false, err
		}
		switch {
		case reply == repAck:
			return true, nil
		case reply&(1<<31) != 0:
			return false, nil
		case each != nil:
			if err := each(reply, body); err != nil {
				return false, err
			}
		}
	}
	return false, violation("no end of replies to option %d", kind)
}

// maxReplies limits the replies to one option.
const maxReplies = 64

// call makes one request. It calls got for each chunk of the reply: with the data of
// a read, without a reader for zeroes, or with the body of a block status.
func (c *Client) call(kind, flags uint16, off, n int64, payload []byte,
	got func(off, n int64, p io.Reader) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.cookie++
	request := command{flags, kind, c.cookie, uint64(off), uint32(n)}
	_, err := c.conn.Write(request.append(nil))
	if err == nil && len(payload) > 0 {
		_, err = c.conn.Write(payload)
	}
	var refused *refusal
	if err == nil {
		if err = c.reply(kind, off, n, got); errors.As(err, &refused) {
			return refused.errno
		}
	}
	if err != nil {
		c.err = fmt.Errorf("the program that reads the image is gone: %w", err)
	}
	return c.err
}

// refusal is returned for a request that the server answered with an error number.
type refusal struct{ errno syscall.Errno }

func (r *refusal) Error() string { return r.errno.Error() }

// refuse returns the refusal with an error number of the server, which is EIO if it is
// not one of Linux.
func refuse(errno uint32) error {
	if errno == 0 || errno > 4095 {
		errno = errnoIO
	}
	return &refusal{syscall.Errno(errno)}
}

// reply reads the reply to a request.
func (c *Client) reply(kind uint16, off, n int64, got func(off, n int64, p io.Reader) error) error {
	be := binary.BigEndian
	var failed error
	left := n // bytes of a read that have not come
	for range clientRequest/BlockSize + 2 {
		var h [20]byte
		if _, err := io.ReadFull(c.r, h[:16]); err != nil {
			return err
		}
		if be.Uint64(h[8:]) != c.cookie {
			return violation("reply to another request")
		}
		if be.Uint32(h[:]) == magicSimple {
			switch errno := be.Uint32(h[4:]); {
			case errno != 0:
				return refuse(errno)
			case kind == cmdRead:
				return got(off, n, io.LimitReader(c.r, n))
			}
			return nil
		}
		if be.Uint32(h[:]) != magicStructured || !c.terms.structured {
			return violation("no reply magic")
		}
		if _, err := io.ReadFull(c.r, h[16:]); err != nil {
			return err
		}
		flags, chunk, size := be.Uint16(h[4:]), be.Uint16(h[6:]), int64(be.Uint32(h[16:]))
		if size > clientRequest+8 {
			return violation("chunk of %d bytes", size)
		}
		body := &io.LimitedReader{R: c.r, N: size}
		var err error
		switch {
		case chunk == chunkOffsetData && kind == cmdRead, chunk == chunkOffsetHole && kind == cmdRead:
			var o, k int64
			var p io.Reader
			if o, k, p, err = dataChunk(chunk, body); err != nil {
				return err
			}
			if o < off || k < 0 || k > left || o-off > n-k {
				return violation("data that nobody asked for")
			}
			left -= k
			err = got(o, k, p)
		case chunk == chunkBlockStatus && kind == cmdBlockStatus:
			err = got(off, n, body)
		case chunk&(1<<15) != 0:
			var errno [4]byte
			if _, err := io.ReadFull(body, errno[:]); err != nil {
				return violation("short chunk")
			}
			failed = refuse(be.Uint32(errno[:]))
		case chunk != chunkNone:
			return violation("chunk of kind %d", chunk)
		}
		if err == nil {
			_, err = io.Copy(io.Discard, body)
		}
		if err == nil && body.N > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if flags&chunkFlagDone != 0 {
			if failed == nil && kind == cmdRead && left > 0 {
				return violation("a read came back short")
			}
			return failed
		}
	}
	return violation("no end of a reply")
}

// dataChunk reads the head of a chunk of data: their offset and length, and a reader of
// them, which is nil for zeroes.
func dataChunk(chunk uint16, body *io.LimitedReader) (off, n int64, p io.Reader, err error) {
	be := binary.BigEndian
	var at [12]byte
	head := at[:8]
	if chunk == chunkOffsetHole {
		head = at[:]
	}
	if _, err := io.ReadFull(body, head); err != nil {
		return 0, 0, nil, violation("short chunk")
	}
	off = int64(be.Uint64(at[:]))
	if chunk == chunkOffsetHole {
		return off, int64(be.Uint32(at[8:])), nil, nil
	}
	return off, body.N, body, nil
}

// pieces calls do for parts of p that fit into a request. It returns how many bytes
// were done.
func pieces(p []byte, off int64, do func(p []byte, off int64) error) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, clientRequest)
		if err := do(p[done:done+n], off+int64(done)); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// Size returns the size of the export in bytes.
func (c *Client) Size() int64 { return c.size }

// ReadAt reads from the export, up to its end.
func (c *Client) ReadAt(p []byte, off int64) (int, error) {
	within := p[:max(0, min(int64(len(p)), c.size-off))]
	n, err := pieces(within, off, func(p []byte, off int64) error {
		return c.call(cmdRead, 0, off, int64(len(p)), nil, func(o, n int64, r io.Reader) error {
			part := p[o-off : o-off+n]
			if r == nil {
				clear(part)
				return nil
			}
			_, err := io.ReadFull(r, part)
			return err
		})
	})
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// WriteAt writes to the export. Bytes behind its end, which belong to its last block,
// are dropped.
func (c *Client) WriteAt(p []byte, off int64) (int, error) {
	within := p[:max(0, min(int64(len(p)), c.size-off))]
	n, err := pieces(within, off, func(p []byte, off int64) error {
		return c.call(cmdWrite, 0, off, int64(len(p)), p, nil)
	})
	if err == nil {
		n = len(p)
	}
	return n, err
}

// Zero writes zeroes, up to the end of the export.
func (c *Client) Zero(off, n int64) error {
	n = min(n, c.size-off)
	if c.flags&tFlagZeroes == 0 {
		blank := make([]byte, min(n, clientRequest))
		for n > 0 {
			k := min(n, int64(len(blank)))
			if _, err := c.WriteAt(blank[:k], off); err != nil {
				return err
			}
			off, n = off+k, n-k
		}
		return nil
	}
	for n > 0 {
		k := min(n, 1<<30)
		if err := c.call(cmdZeroes, 0, off, k, nil, nil); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// Hole reports whether off is known to read as zeroes, and for how many of at most
// limit bytes the answer holds.
func (c *Client) Hole(off, limit int64) (bool, int64) {
	if off >= c.size {
		return true, limit
	}
	if !c.terms.status {
		return false, limit
	}
	zero, length := false, limit
	err := c.call(cmdBlockStatus, cmdFlagReqOne, off, min(limit, c.size-off, 1<<30), nil,
		func(_, _ int64, r io.Reader) error {
			var p [12]byte // context, length, state
			if _, err := io.ReadFull(r, p[:]); err != nil {
				return violation("short block status")
			}
			zero = binary.BigEndian.Uint32(p[8:])&stateZero != 0
			length = min(limit, max(1, int64(binary.BigEndian.Uint32(p[4:]))))
			return nil
		})
	if err != nil {
		return false, limit // a read will fail with it
	}
	return zero, length
}

// Flush returns when everything written is permanent. A server without a cache is
// not asked.
func (c *Client) Flush() error {
	if c.flags&tFlagFlush == 0 {
		return nil
	}
	return c.call(cmdFlush, 0, 0, 0, nil, nil)
}

// Close disconnects from the server.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		_, _ = c.conn.Write(command{kind: cmdDisc}.append(nil)) // the connection ends anyway
	}
	c.err = ErrClosed
	return c.conn.Close()
}
