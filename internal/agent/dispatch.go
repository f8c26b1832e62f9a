package agent

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent/executor"
	"provium/internal/agent/file"
	"provium/internal/agent/session"
	"provium/internal/wire"
)

// dispatcher gives each request to the package that carries it out.
type dispatcher struct{ *Agent }

// okMessage is an ok result without value, which most operations end with.
const okMessage = "\x82\xa7outcome\xa2ok\xa5value\xc0"

// Now answers what takes no time worth mentioning.
func (d dispatcher) Now(id uint64, req wire.Request, buf []byte) (frame []byte, begun any) {
	switch req := req.(type) {
	case *wire.Ping:
		return okFrame(buf, id), nil
	case *wire.ClockGet:
		v, err := clocks()
		if err != nil {
			return failureFrame(buf, id, err), nil
		}
		return resultFrame(buf, id, &wire.Result{Value: v}), nil
	case *wire.Syscall:
		if d.cfg.RootMoves() {
			return nil, nil
		}
		call, done := d.execs.Now(req, func(v *wire.SyscallValue) {
			if v.Errno == uint32(unix.ENOENT) && d.cfg.RootMoves() {
				return // as in item, it is made again
			}
			frame = resultFrame(buf, id, &wire.Result{Value: v})
		})
		if done {
			return frame, nil
		}
		if call != nil {
			return nil, call
		}
	case *wire.Renew:
		if req.MachineID || req.Disturb != 0 || req.Tick {
			break // in the root directory of PID 1, and where a process may be started
		}
		if err := d.renew(req); err != nil {
			return failureFrame(buf, id, err), nil
		}
		return okFrame(buf, id), nil
	}
	return nil, nil
}

// resultFrame appends a Result frame to buf, which is empty.
func resultFrame(buf []byte, id uint64, r *wire.Result) []byte {
	b := slices.Grow(buf, 128)[:wire.HeaderSize]
	if v, ok := r.Value.(*wire.SyscallValue); ok {
		b = slices.Grow(b, 128+len(v.Data)) // the buffers are copied once
	}
	b = wire.AppendResult(b, r)
	wire.Header{Length: uint32(len(b) - wire.HeaderSize), Type: wire.FrameResult, Op: id}.Put(b)
	return b
}

func okFrame(buf []byte, id uint64) []byte {
	return wire.AppendFrame(slices.Grow(buf, 128), wire.Header{Type: wire.FrameResult, Op: id}, []byte(okMessage))
}

func failureFrame(buf []byte, id uint64, err error) []byte {
	result := session.Failure(err)
	return resultFrame(buf, id, &result)
}

// batchInline is how much bulk data a batch's result may carry itself.
const batchInline = 1 << 20

// Do carries an operation out and sends its result.
func (d dispatcher) Do(o *session.Op, req wire.Request) {
	if isFileOp(req) {
		d.doAbandonable(o, req)
		return
	}
	result := d.result(o, req)
	o.Finish(&result)
}

// abandonAfter is how long a cancelled operation on files may take to end. A file system
// that waits for a server lets nothing but a fatal signal end that, and the agent must
// live.
const abandonAfter = time.Second

// isFileOp reports whether an operation makes system calls on files itself.
func isFileOp(req wire.Request) bool {
	switch r := req.(type) {
	case *wire.ReadFile, *wire.WriteFile, *wire.Stat, *wire.ListDir, *wire.Mkdir, *wire.Unlink, *wire.Rename:
		return true
	case *wire.Syscall:
		return r.Executor == wire.FilesExecutor
	}
	return false
}

// doAbandonable is Do for an operation whose system calls may not let themselves be
// interrupted. It then answers that the operation was cancelled, and keeps the thread.
func (d dispatcher) doAbandonable(o *session.Op, req wire.Request) {
	var once sync.Once
	stop := context.AfterFunc(o.Context(), func() {
		time.AfterFunc(abandonAfter, func() {
			once.Do(func() {
				result := session.Failure(context.Canceled)
				o.Finish(&result)
			})
		})
	})
	result := d.result(o, req)
	stop()
	once.Do(func() { o.Finish(&result) })
}

// result carries an operation out.
func (d dispatcher) result(o *session.Op, req wire.Request) (result wire.Result) {
	if b, ok := req.(*wire.Batch); ok {
		result.Value = d.batch(o, b)
	} else {
		o.Begin(wire.InlineLimit)
		result = d.item(o, req, false)
		result.Streamed = o.Streamed()
	}
	return result
}

// batch carries out the items of a batch. Only so much of their results is held
// here; what is beyond is streamed as it comes.
func (d dispatcher) batch(o *session.Op, b *wire.Batch) wire.BatchValue {
	budget := batchInline
	results := make(wire.BatchValue, len(b.Ops))
	for i := 0; i < len(b.Ops); {
		if n := executor.PlainCalls(b.Ops[i:]); n > 1 {
			d.execs.Batch(o.Context(), b.Ops[i:i+n], results[i:], func() error {
				_, err := d.enterRoot(o.Context())
				return err
			})
			i += n
			continue
		}
		inline := min(wire.InlineLimit, budget)
		o.Begin(inline)
		results[i] = d.item(o, b.Ops[i], true)
		results[i].Streamed = o.Streamed()
		budget -= inline - o.InlineLeft()
		i++
	}
	return results
}

// enterRoot moves the agent to the root directory of PID 1. It returns how many times
// that has changed.
func (d dispatcher) enterRoot(ctx context.Context) (moves uint64, err error) {
	moved, err := d.cfg.Root(ctx)
	if err == nil && moved {
		d.net.CarryNames()
		err = d.execs.Follow()
		d.moves.Add(1)
	}
	return d.moves.Load(), err
}

// item carries out one operation that is not a batch. One that did not find a file while
// PID 1 emptied the root directory to leave it is carried out again in the next one.
func (d dispatcher) item(o *session.Op, req wire.Request, inBatch bool) wire.Result {
	if o.Context().Err() != nil {
		return session.Failure(context.Canceled)
	}
	moves, err := d.enterRoot(o.Context())
	if err != nil {
		return session.Failure(err)
	}
	if o.Context().Err() != nil { // that may take long, too
		return session.Failure(context.Canceled)
	}
	result, body := d.carryOut(o, req, inBatch)
	if isMissing(req, &result) && o.Streamed() == [wire.Streams]uint64{} {
		if now, err := d.enterRoot(o.Context()); err == nil && now != moves {
			result, body = d.carryOut(o, req, inBatch)
		}
	}
	if body != nil && o.Context().Err() == nil {
		// In a batch the next operation's bytes stand behind these.
		body.Discard()
	}
	return result
}

// isMissing reports whether an operation has done nothing, since a file was not there,
// and can be carried out again: none of the bytes that came over its stream are used up.
func isMissing(req wire.Request, r *wire.Result) bool {
	streamed := false
	switch req := req.(type) {
	case *wire.Run:
		streamed = req.Stdin.Streamed()
	case *wire.ProcStart:
		streamed = req.Stdin.Streamed()
	case *wire.WriteFile:
		streamed = req.Data.Streamed()
	case *wire.Syscall:
		streamed = req.Data.Streamed()
	}
	if streamed {
		return false
	}
	if r.Err != nil {
		return r.Err.Errno == uint32(unix.ENOENT)
	}
	v, ok := r.Value.(*wire.SyscallValue)
	return ok && v.Errno == uint32(unix.ENOENT)
}

// carryOut carries out one operation in the present root directory. The body, nil for
// none, may not have been read to its end.
func (d dispatcher) carryOut(o *session.Op, req wire.Request, inBatch bool) (wire.Result, *session.Body) {
	var v wire.Value
	var body *session.Body
	var err error
	switch r := req.(type) {
	case *wire.Ping:
	case *wire.Run:
		body = o.Body(r.Stdin)
		v, err = d.procs.Run(o, r, body, d.execs.Launcher(0))
		if v != nil {
			err = nil // the host has cancelled it, and gets what it has printed
		}
	case *wire.ReadFile:
		v, err = file.Read(o, r, !inBatch)
	case *wire.WriteFile:
		body = o.Body(r.Data)
		err = file.Write(o, r, body)
	case *wire.Stat:
		v, err = file.Stat(r)
	case *wire.ListDir:
		v, err = file.List(r)
	case *wire.Mkdir:
		err = file.Mkdir(r)
	case *wire.Unlink:
		err = file.Unlink(r)
	case *wire.Rename:
		err = file.Rename(r)
	case *wire.ClockGet:
		v, err = clocks()
	case *wire.ClockSet:
		v, err = clockSet(r.RealtimeNS, r.Earliest)
	case *wire.ClockAdvance:
		v, err = clockAdvance(r.ByNS)
	case *wire.Sleep:
		err = sleep(o.Context(), r.NS)
	case *wire.KernelLog:
		v, err = kernelLog(o)
	case *wire.AwaitDisk:
		err = d.cfg.AwaitDisk(o.Context(), r.Serial, r.Bus, r.Gone)
	case *wire.Renew:
		err = d.renew(r)
	case *wire.Network:
		err = d.net.Apply(o.Context(), r)
	default:
		v, body, err = d.object(o, req)
	}
	if err != nil {
		return session.Failure(err), body
	}
	return wire.Result{Value: v}, body
}

// object carries out an operation on something that outlives operations: a
// process, an executor, a stream.
func (d dispatcher) object(o *session.Op, req wire.Request) (v wire.Value, body *session.Body, err error) {
	switch r := req.(type) {
	case *wire.ProcStart:
		body = o.Body(r.Stdin)
		v, err = d.procs.Start(o.Context(), r, body, d.execs.Launcher(r.Worker))
	case *wire.ProcWait:
		v, err = d.procs.Wait(o, r)
	case *wire.ProcSignal:
		err = d.procs.Signal(r)
	case *wire.ProcStatus:
		v, err = d.procs.Status(r)
	case *wire.ProcWrite:
		body = o.Body(r.Data)
		v, err = d.procs.Write(o, r, body)
	case *wire.ProcCloseStdin:
		err = d.procs.CloseStdin(r)
	case *wire.ProcResize:
		err = d.procs.Resize(r)
	case *wire.ProcOutput:
		err = d.procs.Output(o, r)
	case *wire.ProcClose:
		err = d.procs.Close(o, r)
	case *wire.TailFile:
		err = d.tail(o, r)
	case *wire.Syscall:
		body = o.Body(r.Data)
		if r.Executor == wire.FilesExecutor {
			v, err = file.Call(o, r, body)
		} else {
			v, err = d.execs.Call(o, r, body)
		}
	case *wire.SyscallAwait:
		v, err = d.execs.Await(o, r)
	case *wire.SyscallDrop:
		err = d.execs.Drop(o.Context(), r)
	case *wire.ReadMem:
		v, err = d.execs.ReadMem(o, r)
	case *wire.FDTail:
		var fd int
		if fd, err = d.execs.Descriptor(o.Context(), r.Executor, r.FD); err == nil {
			err = file.TailDescriptor(o, fd)
		}
	case *wire.WorkerSpawn:
		v, err = d.execs.SpawnWorker(o.Context())
	case *wire.WorkerClose:
		d.execs.CloseWorker(r)
	default:
		err = &wire.Error{Text: fmt.Sprintf("the agent does not know the operation %s", req.Op())}
	}
	return v, body, err
}

func (d dispatcher) tail(o *session.Op, r *wire.TailFile) error {
	if r.Worker == 0 {
		return file.Tail(o, r, nil)
	}
	x, err := d.execs.Get(r.Worker)
	if err != nil {
		return err
	}
	return file.Tail(o, r, x)
}

// sleep waits, since a batch may pause between its items.
func sleep(ctx context.Context, ns uint64) error {
	t := time.NewTimer(time.Duration(min(ns, math.MaxInt64)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Canceled
	}
}
