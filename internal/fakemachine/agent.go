package fakemachine

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/localvmm"
	"provium/internal/wire"
)

// do carries out an operation, by the test's function if it has one.
func (m *Machine) do(ctx context.Context, op *localvmm.Op) (wire.Value, *wire.Error) {
	m.mu.Lock()
	m.requests = append(m.requests, op.Request)
	panicked := m.panicked
	m.mu.Unlock()
	if panicked {
		return Hang(ctx, op)
	}
	v, failure := m.one(ctx, op, op.Request)
	if m.await(ctx) != nil {
		return nil, Errno(wireECANCELED)
	}
	return v, failure
}

func (m *Machine) one(ctx context.Context, op *localvmm.Op, r wire.Request) (wire.Value, *wire.Error) {
	m.mu.Lock()
	scripted := m.ops[r.Op()]
	m.mu.Unlock()
	if scripted != nil {
		return scripted(ctx, op)
	}
	switch r := r.(type) {
	case *wire.Ping, *wire.Network, *wire.AwaitDisk:
		return nil, nil
	case *wire.Renew:
		m.renew(r)
		return nil, nil
	case *wire.Batch:
		return m.batch(ctx, op, r)
	case *wire.ClockGet:
		return m.clock(), nil
	case *wire.ClockSet:
		m.setClock(r.RealtimeNS)
		return m.clock(), nil
	case *wire.ClockAdvance:
		m.shiftClock(r.ByNS)
		return m.clock(), nil
	case *wire.Sleep:
		return nil, sleep(ctx, time.Duration(r.NS))
	}
	if v, failure, known := m.fileOp(ctx, op, r); known {
		return v, failure
	}
	if v, failure, known := m.processOp(ctx, op, r); known {
		return v, failure
	}
	if v, failure, known := m.syscallOp(ctx, op, r); known {
		return v, failure
	}
	return nil, Errno(uint32(unix.ENOSYS))
}

// batch does its operations one after the other.
func (m *Machine) batch(ctx context.Context, op *localvmm.Op, b *wire.Batch) (wire.Value, *wire.Error) {
	out := wire.BatchValue{}
	for _, r := range b.Ops {
		if ctx.Err() != nil {
			out = append(out, wire.Result{Err: Errno(wireECANCELED)})
			continue
		}
		v, failure := m.one(ctx, op, r)
		out = append(out, wire.Result{Value: v, Err: failure})
	}
	return out, nil
}

func (m *Machine) renew(r *wire.Renew) {
	if len(r.Entropy) > 0 {
		m.mu.Lock()
		m.entropy = append(m.entropy, r.Entropy)
		m.mu.Unlock()
	}
	if r.RealtimeNS != 0 {
		m.setClock(r.RealtimeNS)
	}
}

func (m *Machine) clock() *wire.ClockValue {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	up := int64(now.Sub(m.guest.started) + m.ahead)
	return &wire.ClockValue{RealtimeNS: now.UnixNano() + m.clockShift, MonotonicNS: up, BoottimeNS: up}
}

// SetAhead has the clocks that count since the boot show so much more.
func (m *Machine) SetAhead(ahead time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ahead = ahead
}

func (m *Machine) setClock(ns int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clockShift = ns - time.Now().UnixNano()
}

func (m *Machine) shiftClock(by int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clockShift += by
}

func sleep(ctx context.Context, d time.Duration) *wire.Error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return Errno(wireECANCELED)
	}
}

func (m *Machine) fileOp(ctx context.Context, op *localvmm.Op, r wire.Request) (v wire.Value, failure *wire.Error,
	known bool) {
	switch r := r.(type) {
	case *wire.ReadFile:
		p, failure := m.Files.Read(r.Path)
		switch {
		case failure != nil:
			return nil, failure, true
		case r.Max > 0 && uint64(len(p)) > r.Max:
			return nil, Errno(uint32(unix.EFBIG)), true
		case r.Pieces:
			p = onePiece(p)
		}
		return &wire.FileValue{Data: p, Perm: m.Files.perm(r.Path)}, nil, true
	case *wire.WriteFile:
		p, err := op.Bulk(r.Data)
		if err != nil {
			return nil, Errno(wireECANCELED), true
		}
		if r.Pieces {
			p = fromPieces(p)
		}
		return nil, m.Files.write(r.Path, p, r.SetPerm, r.Perm, false), true
	case *wire.Stat:
		v, failure = m.Files.stat(r)
		return v, failure, true
	case *wire.ListDir:
		v, failure = m.Files.list(r.Path)
		return v, failure, true
	case *wire.Mkdir:
		return nil, m.Files.mkdir(r), true
	case *wire.Unlink:
		return nil, m.Files.unlink(r.Path), true
	case *wire.Rename:
		return nil, m.Files.rename(r.From, r.To), true
	case *wire.TailFile:
		return nil, m.tail(ctx, op, r), true
	case *wire.KernelLog: // what a test has written to the file
		p, failure := m.Files.Read("/dev/kmsg")
		return &wire.FileValue{Data: p}, failure, true
	}
	return nil, nil, false
}

// tail streams a file until it is cancelled.
func (m *Machine) tail(ctx context.Context, op *localvmm.Op, r *wire.TailFile) *wire.Error {
	_, size, _, failure := m.Files.from(r.Path, 0)
	if failure != nil {
		return failure
	}
	at := r.Start
	if r.FromEnd {
		at = max(0, size+r.Start)
	}
	if op.Send(wire.StreamData, nil) != nil {
		return Errno(wireECANCELED)
	}
	for {
		p, _, changed, failure := m.Files.from(r.Path, at)
		if failure == nil && len(p) > 0 {
			if op.Send(wire.StreamData, p) != nil {
				return Errno(wireECANCELED)
			}
			at += int64(len(p))
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Errno(wireECANCELED)
		}
	}
}

// onePiece encodes a file without holes.
func onePiece(p []byte) []byte {
	b := make([]byte, wire.PieceHeader, 2*wire.PieceHeader+len(p))
	wire.PutPiece(b, 0, len(p))
	if len(p) == 0 {
		return b
	}
	b = append(append(b, p...), make([]byte, wire.PieceHeader)...)
	wire.PutPiece(b[wire.PieceHeader+len(p):], int64(len(p)), 0)
	return b
}

// fromPieces returns the contents of a file.
func fromPieces(p []byte) []byte {
	var pieces wire.Pieces
	var out []byte
	_ = pieces.Feed(p, func(offset int64, p []byte) error {
		out = append(append(out, make([]byte, int(offset)-len(out))...), p...)
		return nil
	})
	size, err := pieces.Size()
	if err != nil {
		return nil
	}
	return append(out, make([]byte, int(size)-len(out))...)
}
