package executor

import (
	"context"
	"encoding/binary"
	"fmt"
	"syscall"

	"provium/internal/agent/session"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// System calls that stand next to each other in a batch go to the executor
// together, in a file in memory that both see: struct batch in
// program/protocol.h. A lethal call leaves behind what the calls before it
// returned.
const (
	batchHead  = 8
	batchCall  = 72
	batchCalls = 1 << 12 // at once
)

// PlainCalls counts the system calls at the head of ops that may go together.
func PlainCalls(ops []wire.Request) int {
	var first *wire.Syscall
	for i, r := range ops {
		c, ok := r.(*wire.Syscall)
		switch {
		case !ok || c.Async || c.ExactMode || len(c.Lens) > 0 || i >= batchCalls:
			return i
		case first == nil:
			first = c
		case c.Executor != first.Executor || c.Life != first.Life:
			return i
		}
	}
	return len(ops)
}

// Batch makes system calls that PlainCalls has chosen. enter is called before
// them, for the root directory to work in.
func (s *Pool) Batch(ctx context.Context, ops []wire.Request, results []wire.Result, enter func() error) {
	for len(ops) > 0 {
		done, err := s.someCalls(ctx, ops, results, enter)
		if done < len(ops) {
			if err == nil {
				err = context.Canceled
			}
			// A fresh executor goes on behind the call that killed this one.
			results[done] = session.Failure(err)
			done++
		}
		ops, results = ops[done:], results[done:]
	}
}

// someCalls sets the results of the calls that have returned, and returns why the
// one behind them did not.
func (s *Pool) someCalls(
	ctx context.Context, ops []wire.Request, results []wire.Result, enter func() error,
) (done int, err error) {
	if ctx.Err() != nil {
		return 0, context.Canceled
	}
	if err := enter(); err != nil {
		return 0, err
	}
	first := ops[0].(*wire.Syscall)
	x, err := s.Get(first.Executor)
	if err == nil {
		err = x.isMeant(first)
	}
	if err != nil {
		return 0, err
	}
	b := encodeBatch(ops)
	file, err := sys.MemoryFile()
	if err != nil {
		return 0, err
	}
	defer sys.CloseNow(file)
	if err := sys.PwriteNow(file, b, 0); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = sys.PwriteNow(file, []byte{1}, 0)
	})
	req := &request{kind: execBatch, args: [6]int64{int64(len(ops))}, fds: []int{file}}
	for _, r := range ops {
		nr := r.(*wire.Syscall).Nr
		req.enters, req.confines = req.enters || enters(nr), req.confines || confines(nr)
	}
	a, err := x.do(ctx, req)
	if !stop() && err == nil {
		err = context.Canceled
	}
	if err == nil && a.errno != 0 {
		err = syscall.Errno(a.errno)
	}
	if e := sys.PreadNow(file, b, 0); e != nil {
		return 0, e
	}
	e := binary.NativeEndian
	done = min(int(e.Uint32(b[4:])), len(ops))
	values := make([]wire.SyscallValue, done)
	for i := range done {
		c := b[batchHead+i*batchCall:]
		values[i] = wire.SyscallValue{Ret: int64(e.Uint64(c[56:])), Errno: e.Uint32(c[64:]), Life: x.life}
		results[i] = wire.Result{Value: &values[i]}
	}
	if err == nil && done < len(ops) {
		err = fmt.Errorf("the executor made %d of %d system calls", done, len(ops))
	}
	return done, err
}

// encodeBatch returns the file's contents.
func encodeBatch(ops []wire.Request) []byte {
	e := binary.NativeEndian
	b := make([]byte, batchHead+len(ops)*batchCall)
	for i, r := range ops {
		call := r.(*wire.Syscall)
		c := b[batchHead+i*batchCall:]
		e.PutUint64(c, uint64(call.Nr))
		for k, a := range call.Args {
			e.PutUint64(c[8+8*k:], uint64(a))
		}
	}
	return b
}
