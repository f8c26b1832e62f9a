package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
)

// client has the contents of an image that another server knows how to read. It
// makes one request at a time, and is safe for concurrent use.
type client struct {
	conn  net.Conn
	r     *bufio.Reader
	size  int64
	flags uint16 // of the transmission phase
	terms terms

	mu     sync.Mutex
	cookie uint64
	err    error // why the connection is of no use any more
}

// clientRequest is how much one request of a client transfers, in bytes.
const clientRequest = 4 << 20

// newClient agrees with a server on its default export. It owns conn.
func newClient(conn net.Conn) (*client, error) {
	c := &client{conn: conn, r: newReader(conn)}
	if err := c.handshake(); err != nil {
		return nil, errors.Join(fmt.Errorf("nbd handshake: %w", err), conn.Close())
	}
	return c, nil
}

func (c *client) handshake() error {
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
	name := be.AppendUint32(nil, 0)
	if ok {
		p := be.AppendUint32(slices.Clone(name), 1)
		p = append(be.AppendUint32(p, uint32(len(contextName))), contextName...)
		_, err = c.option(optSetMeta, p, func(kind uint32, p []byte) error {
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
	ok, err = c.option(optGo, be.AppendUint16(name, 0), func(kind uint32, p []byte) error {
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

// option sends an option and hands its replies to each. It tells whether the
// server agreed.
func (c *client) option(kind uint32, data []byte, each func(kind uint32, p []byte) error) (bool, error) {
	be := binary.BigEndian
	p := be.AppendUint64(nil, magicOption)
	p = be.AppendUint32(p, kind)
	p = be.AppendUint32(p, uint32(len(data)))
	if _, err := c.conn.Write(append(p, data...)); err != nil {
		return false, err
	}
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

// maxReplies is how many replies to an option are read.
const maxReplies = 64

// call makes one request. got takes the chunks of its reply: data of a read, zeroes
// for it (p is nil), or the body of a block status.
func (c *client) call(kind, flags uint16, off, n int64, payload []byte, got func(off, n int64, p io.Reader) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.cookie++
	be := binary.BigEndian
	p := be.AppendUint32(nil, magicRequest)
	p = be.AppendUint16(p, flags)
	p = be.AppendUint16(p, kind)
	p = be.AppendUint64(p, c.cookie)
	p = be.AppendUint64(p, uint64(off))
	p = be.AppendUint32(p, uint32(n))
	_, err := c.conn.Write(p)
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

// refusal is a request that the server could not carry out.
type refusal struct{ errno syscall.Errno }

func (r *refusal) Error() string { return r.errno.Error() }

func refuse(errno uint32) error {
	if errno == 0 || errno > 4095 {
		errno = errnoIO
	}
	return &refusal{syscall.Errno(errno)}
}

// reply reads the reply to a request.
func (c *client) reply(kind uint16, off, n int64, got func(off, n int64, p io.Reader) error) error {
	be := binary.BigEndian
	var failed error
	left := n // bytes of a read that have not come
	for range clientRequest/SectorSize + 2 {
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
			var at [12]byte
			head := at[:8]
			if chunk == chunkOffsetHole {
				head = at[:]
			}
			if _, err := io.ReadFull(body, head); err != nil {
				return violation("short chunk")
			}
			o, k := int64(be.Uint64(at[:])), body.N
			var p io.Reader = body
			if chunk == chunkOffsetHole {
				k, p = int64(be.Uint32(at[8:])), nil
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

// pieces splits a range into requests.
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

// ReadAt reads from the image, up to its end.
func (c *client) ReadAt(p []byte, off int64) (int, error) {
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

// WriteAt writes to the image. What is behind its end, less than a sector, is of no
// use to anybody.
func (c *client) WriteAt(p []byte, off int64) (int, error) {
	within := p[:max(0, min(int64(len(p)), c.size-off))]
	n, err := pieces(within, off, func(p []byte, off int64) error {
		return c.call(cmdWrite, 0, off, int64(len(p)), p, nil)
	})
	if err == nil {
		n = len(p)
	}
	return n, err
}

func (c *client) zero(off, n int64) error {
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

func (c *client) hole(off, limit int64) (bool, int64) {
	if off >= c.size {
		return true, limit
	}
	if !c.terms.status {
		return false, limit
	}
	zero, length := false, limit
	err := c.call(cmdBlockStatus, cmdFlagReqOne, off, min(limit, c.size-off, 1<<30), nil, func(_, _ int64, r io.Reader) error {
		var p [12]byte // context, length, state
		if _, err := io.ReadFull(r, p[:]); err != nil {
			return violation("short block status")
		}
		zero = binary.BigEndian.Uint32(p[8:])&stateZero != 0
		length = min(limit, max(1, int64(binary.BigEndian.Uint32(p[4:]))))
		return nil
	})
	if err != nil {
		return false, limit // reading will tell
	}
	return zero, length
}

func (c *client) flush() error {
	if c.flags&tFlagFlush == 0 {
		return nil
	}
	return c.call(cmdFlush, 0, 0, 0, nil, nil)
}

func (c *client) resize(int64) error {
	return errors.New("an image that is used in place can be resized if it is raw, and this one is not")
}

// Close says goodbye.
func (c *client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		p := binary.BigEndian.AppendUint32(nil, magicRequest)
		p = binary.BigEndian.AppendUint16(p, 0)
		p = binary.BigEndian.AppendUint16(p, cmdDisc)
		_, _ = c.conn.Write(append(p, make([]byte, 20)...)) // the connection ends anyway
	}
	c.err = ErrClosed
	return c.conn.Close()
}
