package nbd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"
)

// session is the connection of one client.
type session struct {
	disk  Backend
	fast  DirectBackend // the disk, if data can go directly between it and sock; else nil
	conn  io.ReadWriter
	sock  *socket // conn, if it is a unix socket; else nil
	r     io.Reader
	terms terms

	delayed sync.WaitGroup // requests that have a goroutine
	room    chan struct{}  // a token for each of them

	mu  sync.Mutex // of the sending side
	out []byte     // replies that are not sent yet
	err error      // of sending
}

// maxDelayed is how many requests of a connection may be delayed at once. The server
// reads no further request meanwhile.
const maxDelayed = 64

// sendBatch limits the replies, in bytes, that are sent together when more requests
// have arrived already.
const sendBatch = 1 << 20

// Serve serves disk to one client. It returns when the client is gone or breaks the
// protocol, or when ctx ends. It closes conn.
func Serve(ctx context.Context, conn net.Conn, disk Backend) error {
	return serveClient(ctx, conn, disk, nil)
}

// Resume is Serve for a client that has made the handshake on another connection to an equal disk, and had all
// agreed to that it can use: structured replies and the states of blocks, as QEMU does.
func Resume(ctx context.Context, conn net.Conn, disk Backend) error {
	return serveClient(ctx, conn, disk, &terms{structured: true, status: true})
}

// serveClient serves a client, with a handshake unless there are terms.
func serveClient(ctx context.Context, conn net.Conn, disk Backend, agreed *terms) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{disk: disk, conn: conn, room: make(chan struct{}, maxDelayed)}
	hangUp := func() { conn.Close() }
	if u, ok := conn.(*net.UnixConn); ok {
		var err error
		if s.sock, err = newSocket(u); err != nil {
			return fmt.Errorf("nbd connection: %w", err)
		}
		s.conn, s.r, hangUp = s.sock, s.sock, s.sock.hangUp
		s.fast, _ = disk.(DirectBackend)
		defer s.sock.Close()
	} else {
		s.r = newReader(conn)
		defer conn.Close()
	}
	defer context.AfterFunc(ctx, hangUp)()
	defer s.delayed.Wait()
	defer cancel()
	var err error
	if agreed != nil {
		s.terms = *agreed
	} else {
		err = s.handshake()
	}
	if err == nil {
		err = s.transmit(ctx)
	}
	if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, errAborted) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// transmit carries out requests until the client disconnects, which is no error, or
// the connection breaks.
func (s *session) transmit(ctx context.Context) error {
	var head [commandSize]byte
	var buf []byte
	for {
		if err := s.next(head[:]); err != nil {
			return err
		}
		c, err := decodeCommand(head[:])
		if err != nil {
			return err
		}
		if c.kind == cmdDisc {
			return s.send()
		}
		if s.terms.atRandom {
			time.Sleep(rand.N(maxAtRandom))
			if err := s.send(); err != nil { // those before are not answered together with this one
				return err
			}
			time.Sleep(rand.N(maxAtRandom))
		}
		var payload []byte
		if c.kind == cmdWrite && c.n > maxRequest {
			return violation("write of %d bytes", c.n)
		}
		if c.kind == cmdWrite && s.invalid(&c) != 0 {
			// Nothing is allocated for data that are not wanted.
			if _, err := io.CopyN(io.Discard, s.r, int64(c.n)); err != nil {
				return err
			}
			s.perform(ctx, c, nil, nil)
			continue
		}
		if c.kind == cmdWrite && s.direct(c) {
			in := &Incoming{s.sock, int(c.n)}
			s.perform(ctx, c, nil, in)
			if err := in.skip(); err != nil {
				return err
			}
			continue
		}
		if c.kind == cmdWrite {
			if cap(buf) < int(c.n) {
				buf = make([]byte, c.n)
			}
			payload = buf[:c.n]
			if _, err := io.ReadFull(s.r, payload); err != nil {
				return err
			}
		}
		if !s.delays() {
			s.perform(ctx, c, payload, nil)
			continue
		}
		buf = nil // the goroutine owns it
		if err := s.send(); err != nil {
			return err
		}
		select {
		case s.room <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		s.delayed.Add(1)
		go func() {
			defer s.delayed.Done()
			s.perform(ctx, c, payload, nil)
			<-s.room
			_ = s.send() // the reader meets the error as well
		}()
	}
}

// delays reports whether later requests may be answered before the next one.
func (s *session) delays() bool { return !s.terms.inOrder && s.disk.Delays() }

// next reads the next command. Before it waits for one, it sends the replies.
func (s *session) next(head []byte) error {
	n := 0
	if s.sock != nil {
		var err error
		if n, err = s.sock.tryRead(head); err != nil {
			return err
		}
	} else if r, ok := s.r.(*bufio.Reader); ok && r.Buffered() >= len(head) {
		n, _ = r.Read(head)
	}
	if n < len(head) {
		if err := s.send(); err != nil {
			return err
		}
	}
	_, err := io.ReadFull(s.r, head[n:])
	if n > 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// send sends the replies in s.out.
func (s *session) send() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sendLocked()
}

// sendLocked is send for a caller that holds s.mu.
func (s *session) sendLocked() error {
	if len(s.out) > 0 && s.err == nil {
		_, s.err = s.conn.Write(s.out)
	}
	if s.out = s.out[:0]; cap(s.out) > 2*sendBatch {
		s.out = nil
	}
	return s.err
}

// direct reports whether the data of a write go directly from the socket to the disk.
func (s *session) direct(c command) bool {
	return s.fast != nil && !s.delays() && s.invalid(&c) == 0 && s.fast.Takes(int64(c.off), int64(c.n))
}

// perform carries out one request and appends its reply to s.out. The data of a
// write are payload, or in if that is not nil.
func (s *session) perform(ctx context.Context, c command, payload []byte, in *Incoming) {
	if errno := s.invalid(&c); errno != 0 {
		s.answer(c, errno)
		return
	}
	off, n := int64(c.off), int64(c.n)
	fua := c.flags&cmdFlagFUA != 0
	var err error
	switch c.kind {
	case cmdRead:
		s.read(ctx, c)
		return
	case cmdBlockStatus:
		s.blockStatus(c)
		return
	case cmdWrite:
		if in != nil {
			err = s.fast.Receive(ctx, in, off, n, fua)
		} else {
			err = s.disk.Write(ctx, payload, off, fua)
		}
	case cmdTrim, cmdZeroes:
		err = s.disk.Zero(ctx, off, n, fua)
	case cmdFlush:
		err = s.disk.Flush(ctx)
	}
	s.answer(c, errnoOf(err))
}

// invalid checks a request before anything is allocated for it. It returns the error
// number to answer with, or 0 for a valid request.
func (s *session) invalid(c *command) (errno uint32) {
	var flags uint16
	switch c.kind {
	case cmdRead:
		flags = cmdFlagDF
	case cmdWrite, cmdTrim:
		flags = cmdFlagFUA
	case cmdZeroes:
		flags = cmdFlagFUA | cmdFlagNoHole | cmdFlagFast
	case cmdBlockStatus:
		flags = cmdFlagReqOne
	case cmdFlush:
		if c.flags != 0 || c.off != 0 || c.n != 0 {
			return errnoInval
		}
		return 0
	default:
		return errnoInval
	}
	size := uint64(s.disk.Size())
	switch {
	case c.flags&^flags != 0, c.flags&cmdFlagDF != 0 && !s.terms.structured,
		c.kind == cmdBlockStatus && !s.terms.status:
		return errnoInval
	case c.n == 0, c.off%BlockSize != 0, c.n%BlockSize != 0:
		return errnoInval
	case c.off > size || uint64(c.n) > size-c.off:
		if c.kind == cmdWrite || c.kind == cmdZeroes {
			return errnoNoSpace
		}
		return errnoInval
	case c.kind == cmdRead && c.n > maxRequest:
		return errnoInval
	case s.disk.ReadOnly() && (c.kind == cmdWrite || c.kind == cmdTrim || c.kind == cmdZeroes):
		return errnoPerm
	}
	return 0
}

// errnoOf returns the number by which the protocol knows an error.
func errnoOf(err error) uint32 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrReadOnly):
		return errnoPerm
	case errors.Is(err, syscall.ENOSPC):
		return errnoNoSpace
	case errors.Is(err, ErrClosed):
		return errnoShutdown
	}
	return errnoIO
}

// answer appends a reply without data.
func (s *session) answer(c command, errno uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	be := binary.BigEndian
	switch {
	case !s.terms.structured || c.kind != cmdRead && c.kind != cmdBlockStatus:
		s.out = be.AppendUint32(s.out, magicSimple)
		s.out = be.AppendUint32(s.out, errno)
		s.out = be.AppendUint64(s.out, c.cookie)
	case errno == 0:
		s.chunk(c, chunkFlagDone, chunkNone, 0)
	default:
		s.chunk(c, chunkFlagDone, chunkError, 6)
		s.out = be.AppendUint32(s.out, errno)
		s.out = be.AppendUint16(s.out, 0)
	}
	if len(s.out) >= sendBatch {
		_ = s.sendLocked()
	}
}

// chunk appends the header of a chunk of a structured reply with a body of n bytes.
// The caller must hold s.mu.
func (s *session) chunk(c command, flags, kind uint16, n int) {
	be := binary.BigEndian
	s.out = be.AppendUint32(s.out, magicStructured)
	s.out = be.AppendUint16(s.out, flags)
	s.out = be.AppendUint16(s.out, kind)
	s.out = be.AppendUint64(s.out, c.cookie)
	s.out = be.AppendUint32(s.out, uint32(n))
}

// directBytes is the size of a read from which on it is sent in extents.
const directBytes = 64 << 10

// read replies with data. If the disk delays requests, it reads them into a buffer
// first, since other goroutines must be able to reply meanwhile.
func (s *session) read(ctx context.Context, c command) {
	delays := s.delays()
	if s.fast != nil && s.terms.structured && c.n >= directBytes && c.flags&cmdFlagDF == 0 && !delays {
		s.readExtents(ctx, c)
		return
	}
	var apart []byte
	if delays {
		apart = make([]byte, c.n)
		if err := s.disk.Read(ctx, apart, int64(c.off)); err != nil {
			s.answer(c, errnoOf(err))
			return
		}
	}
	s.mu.Lock()
	before, n := len(s.out), int(c.n)
	s.dataHeader(c)
	var err error
	if apart != nil {
		s.out = append(s.out, apart...)
	} else {
		at := len(s.out)
		s.out = grow(s.out, n)
		if err = s.disk.Read(ctx, s.out[at:], int64(c.off)); err != nil {
			s.out = s.out[:before]
		}
	}
	if len(s.out) >= sendBatch {
		_ = s.sendLocked()
	}
	s.mu.Unlock()
	if err != nil {
		s.answer(c, errnoOf(err))
	}
}

// dataHeader appends the header of a reply that has all data in one piece. The caller
// must hold s.mu.
func (s *session) dataHeader(c command) {
	be := binary.BigEndian
	if s.terms.structured {
		s.chunk(c, chunkFlagDone, chunkOffsetData, 8+int(c.n))
		s.out = be.AppendUint64(s.out, c.off)
		return
	}
	s.out = be.AppendUint32(s.out, magicSimple)
	s.out = be.AppendUint32(s.out, 0)
	s.out = be.AppendUint64(s.out, c.cookie)
}

// readExtents replies with one chunk for each extent, and sends those that are parts
// of files by sendfile.
func (s *session) readExtents(ctx context.Context, c command) {
	x, p, err := s.fast.Extents(ctx, int64(c.off), int64(c.n))
	if err != nil {
		s.answer(c, errnoOf(err))
		return
	}
	defer x.Release()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p != nil {
		s.dataHeader(c)
		s.out = append(s.out, p...)
		_ = s.sendLocked()
		return
	}
	be := binary.BigEndian
	off := c.off
	for i, e := range x {
		var flags uint16
		if i == len(x)-1 {
			flags = chunkFlagDone
		}
		if e.File == nil {
			s.chunk(c, flags, chunkOffsetHole, 12)
			s.out = be.AppendUint64(s.out, off)
			s.out = be.AppendUint32(s.out, uint32(e.Len))
		} else {
			s.chunk(c, flags, chunkOffsetData, 8+int(e.Len))
			s.out = be.AppendUint64(s.out, off)
			if s.sendLocked() != nil {
				return
			}
			if err := s.sock.sendFile(e.File, e.At, e.Len); err != nil {
				// The client waits for data that cannot be sent.
				s.err = fmt.Errorf("disk read: %w", err)
				return
			}
		}
		off += uint64(e.Len)
	}
}

// grow returns p with n more bytes, of undefined content.
func grow(p []byte, n int) []byte {
	if cap(p)-len(p) < n {
		bigger := make([]byte, len(p), max(2*cap(p), len(p)+n))
		copy(bigger, p)
		p = bigger
	}
	return p[:len(p)+n]
}

// maxExtents limits the ranges in one reply to a block status request.
const maxExtents = 1024

// blockStatus replies with the ranges of data and of zeroes.
func (s *session) blockStatus(c command) {
	be := binary.BigEndian
	p := be.AppendUint32(nil, contextID)
	off, left := int64(c.off), int64(c.n)
	most := maxExtents
	if c.flags&cmdFlagReqOne != 0 {
		most = 1
	}
	for i := 0; i < most && left > 0; i++ {
		hole, n := s.disk.Hole(off, left)
		if n = n / BlockSize * BlockSize; n == 0 {
			hole, n = false, BlockSize // a hole that begins or ends within a block
		}
		var state uint32
		if hole {
			state = stateHole | stateZero
		}
		p = be.AppendUint32(p, uint32(n))
		p = be.AppendUint32(p, state)
		off, left = off+n, left-n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chunk(c, chunkFlagDone, chunkBlockStatus, len(p))
	s.out = append(s.out, p...)
}
