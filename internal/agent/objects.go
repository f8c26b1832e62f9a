package agent

import (
	"fmt"
	"io"

	"provium/internal/wire"
)

// object carries out an operation on something that outlives operations.
func (o *op) object(req wire.Request) (v wire.Value, body *body, err error) {
	switch r := req.(type) {
	case *wire.ProcStart:
		body = o.body(r.Stdin)
		v, err = o.procStart(r, body)
	case *wire.ProcWait:
		v, err = o.procWait(r)
	case *wire.ProcSignal:
		err = o.procSignal(r)
	case *wire.ProcStatus:
		v, err = o.procStatus(r)
	case *wire.ProcWrite:
		body = o.body(r.Data)
		v, err = o.procWrite(r, body)
	case *wire.ProcCloseStdin:
		err = o.procCloseStdin(r)
	case *wire.ProcOutput:
		err = o.procOutput(r)
	case *wire.ProcClose:
		err = o.procClose(r)
	case *wire.TailFile:
		err = o.tailFile(r)
	case *wire.Syscall:
		body = o.body(r.Data)
		v, err = o.syscall(r, body)
	case *wire.SyscallAwait:
		v, err = o.syscallAwait(r)
	case *wire.SyscallDrop:
		err = o.syscallDrop(r)
	case *wire.ReadMem:
		v, err = o.readMem(r)
	case *wire.FDTail:
		err = o.fdTail(r)
	case *wire.WorkerSpawn:
		v, err = o.workerSpawn()
	case *wire.WorkerClose:
		err = o.workerClose(r)
	default:
		err = &wireError{Text: fmt.Sprintf("the agent does not know the operation %s", req.Op())}
	}
	return v, body, err
}

// all reads a request's bulk data into memory.
func (b *body) all(limit int) ([]byte, error) {
	var out []byte
	for {
		p, err := b.next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(out)+len(p) > limit {
			return nil, &wireError{Text: fmt.Sprintf("more than %d bytes of input", limit)}
		}
		out = append(out, p...)
	}
}

// descriptorPath names a descriptor of ours as a path.
func descriptorPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
