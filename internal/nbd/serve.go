package nbd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
)

// session is one client's connection.
type session struct {
	disk  *Disk
	epoch int64 // of the disk when the client came
	conn  io.ReadWriter
	sock  *socket // conn, if it is one; else all data are copied
	r     io.Reader
	terms terms

	held sync.WaitGroup // requests that wait
	room chan struct{}  // a token per request that waits

	mu  sync.Mutex // of the sending side
	out []byte     // replies that are not sent yet
	err error      // of sending
}

// maxHeld is how many requests of a connection may wait at once; what comes then
// waits in the connection.
const maxHeld = 64

// sendBatch is how many bytes of replies are sent at once at the most, while more
// requests are at hand.
const sendBatch = 1 << 20

// Serve serves the disk to one client, and returns when that is gone, breaks the
// protocol, or ctx ends. It closes conn. Several may run at once.
func (d *Disk) Serve(ctx context.Context, conn net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{disk: d, epoch: d.epoch.Load(), conn: conn, room: make(chan struct{}, maxHeld)}
	hangUp := func() { conn.Close() }
	if u, ok := conn.(*net.UnixConn); ok {
		var err error
		if s.sock, err = newSocket(u); err != nil {
			return fmt.Errorf("nbd connection: %w", err)
		}
		s.conn, s.r, hangUp = s.sock, s.sock, s.sock.hangUp
		defer s.sock.Close()
	} else {
		s.r = newReader(conn)
		defer conn.Close()
	}
	defer context.AfterFunc(ctx, hangUp)()
	defer s.held.Wait()
	defer cancel()
	err := s.handshake()
	if err == nil {
		err = s.transmit(ctx)
	}
	if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errAborted) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// transmit carries requests out until the client says goodbye (nil) or is gone.
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
		var payload []byte
		if c.kind == cmdWrite && c.n > maxRequest {
			return violation("write of %d bytes", c.n)
		}
		if c.kind == cmdWrite && s.direct(c) {
			in := &incoming{s.sock, int(c.n)}
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
		if !s.disk.faults.holds() {
			s.perform(ctx, c, payload, nil)
			continue
		}
		// It waits beside others, and keeps its payload.
		buf = nil
		if err := s.send(); err != nil {
			return err
		}
		select {
		case s.room <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		s.held.Add(1)
		go func() {
			defer s.held.Done()
			s.perform(ctx, c, payload, nil)
			<-s.room
			_ = s.send() // the reader meets the error as well
		}()
	}
}

// next reads the next command. Before it waits for one it sends the replies.
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

// send sends the replies there are.
func (s *session) send() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sendLocked()
}

func (s *session) sendLocked() error {
	if len(s.out) > 0 && s.err == nil {
		_, s.err = s.conn.Write(s.out)
	}
	if s.out = s.out[:0]; cap(s.out) > 2*sendBatch {
		s.out = nil
	}
	return s.err
}

// direct tells whether the data of a write go right from the socket to the disk.
func (s *session) direct(c command) bool {
	return s.sock != nil && !s.disk.faults.holds() && s.invalid(&c) == 0 && s.disk.takes(int64(c.off), int64(c.n))
}

// perform carries one request out and leaves its reply to be sent. The data of a
// write are payload, or in.
func (s *session) perform(ctx context.Context, c command, payload []byte, in *incoming) {
	if errno := s.invalid(&c); errno != 0 {
		s.answer(c, errno)
		return
	}
	if s.epoch >= s.disk.valid.Load() && s.disk.failsOnce(&c) {
		s.answer(c, errnoIO)
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
			err = s.disk.guestReceive(ctx, in, off, n, fua)
		} else {
			err = s.disk.guestWrite(ctx, payload, off, fua)
		}
	case cmdTrim, cmdZeroes:
		err = s.disk.guestZero(ctx, off, n, fua)
	case cmdFlush:
		if s.epoch >= s.disk.valid.Load() {
			err = s.disk.guestFlush(ctx)
		}
	}
	s.answer(c, errnoOf(err))
}

// invalid checks a request before anything is allocated for it.
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
	case c.n == 0, c.off%SectorSize != 0, c.n%SectorSize != 0:
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

func errnoOf(err error) uint32 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReadOnly):
		return errnoPerm
	case errors.Is(err, syscall.ENOSPC):
		return errnoNoSpace
	case errors.Is(err, ErrClosed):
		return errnoShutdown
	}
	return errnoIO
}

// answer replies without data.
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

// chunk begins a chunk of a structured reply. Held: s.mu.
func (s *session) chunk(c command, flags, kind uint16, n int) {
	be := binary.BigEndian
	s.out = be.AppendUint32(s.out, magicStructured)
	s.out = be.AppendUint16(s.out, flags)
	s.out = be.AppendUint16(s.out, kind)
	s.out = be.AppendUint64(s.out, c.cookie)
	s.out = be.AppendUint32(s.out, uint32(n))
}

// read replies with data. While requests may wait the data are read apart, since
// others must be able to reply meanwhile.
func (s *session) read(ctx context.Context, c command) {
	holds := s.disk.faults.holds()
	if s.sock != nil && s.terms.structured && c.n >= directBytes && c.flags&cmdFlagDF == 0 && !holds {
		s.readExtents(ctx, c)
		return
	}
	var apart []byte
	if holds {
		apart = make([]byte, c.n)
		if err := s.disk.guestRead(ctx, apart, int64(c.off)); err != nil {
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
		if err = s.disk.guestRead(ctx, s.out[at:], int64(c.off)); err != nil {
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

// dataHeader begins a reply that has all data in one piece. Held: s.mu.
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

// readExtents replies with what files have and with holes, in a chunk for each.
func (s *session) readExtents(ctx context.Context, c command) {
	x, p, err := s.disk.guestExtents(ctx, int64(c.off), int64(c.n))
	if err != nil {
		s.answer(c, errnoOf(err))
		return
	}
	defer x.release()
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
		if e.file == nil {
			s.chunk(c, flags, chunkOffsetHole, 12)
			s.out = be.AppendUint64(s.out, off)
			s.out = be.AppendUint32(s.out, uint32(e.n))
		} else {
			s.chunk(c, flags, chunkOffsetData, 8+int(e.n))
			s.out = be.AppendUint64(s.out, off)
			if s.sendLocked() != nil {
				return
			}
			if err := s.sock.sendFile(e.file, e.at, e.n); err != nil {
				// The client waits for data that there are not.
				s.err = fmt.Errorf("disk read: %w", err)
				return
			}
		}
		off += uint64(e.n)
	}
}

// grow makes p longer by n bytes of any content.
func grow(p []byte, n int) []byte {
	if cap(p)-len(p) < n {
		bigger := make([]byte, len(p), max(2*cap(p), len(p)+n))
		copy(bigger, p)
		p = bigger
	}
	return p[:len(p)+n]
}

// maxExtents is how many extents one reply tells of.
const maxExtents = 1024

func (s *session) blockStatus(c command) {
	be := binary.BigEndian
	p := be.AppendUint32(nil, contextID)
	off, left := int64(c.off), int64(c.n)
	most := maxExtents
	if c.flags&cmdFlagReqOne != 0 {
		most = 1
	}
	for i := 0; i < most && left > 0; i++ {
		hole, n := s.disk.hole(off, left)
		if n = n / SectorSize * SectorSize; n == 0 {
			hole, n = false, SectorSize // a hole that begins or ends within a sector
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
