package process

import (
	"context"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent/session"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// lastOutput is how much of either output the host gets of a command that it has cancelled.
const lastOutput = 4096

// Run starts a command, takes its outputs and returns once it has ended. When the host cancels
// it, the value beside the error has the ends of its outputs.
func (t *Table) Run(o *session.Op, r *wire.Run, body *session.Body, by Launcher) (wire.Value, error) {
	l, err := t.launch(r, by)
	if err != nil {
		return nil, err
	}
	var out, err2 output
	defer out.close()
	defer err2.close()
	if err := out.open(o, wire.StreamStdout); err != nil {
		return nil, err
	}
	if err := err2.open(o, wire.StreamStderr); err != nil {
		return nil, err
	}
	in, childIn, err := t.stdin(r, body)
	if err != nil {
		return nil, err
	}
	l.Files = [3]int{childIn, out.writer, err2.writer}
	c, err := by.Launch(o.Context(), l)
	if childIn != 0 {
		unix.Close(childIn)
	}
	if err != nil {
		if in != nil {
			in.Close()
		}
		return nil, err
	}
	defer sys.CloseNow(c.Pidfd)

	var feeder sync.WaitGroup
	if in != nil {
		feeder.Go(func() { feed(in, body) })
	}
	if r.TimeoutNS > 0 {
		t := time.AfterFunc(time.Duration(min(r.TimeoutNS, 1<<62)), func() { c.Kill(true) })
		defer t.Stop()
	}
	stop := context.AfterFunc(o.Context(), func() { c.Kill(false) })
	defer stop()

	collectErr := t.collect(c.Pidfd, &out, &err2)
	if collectErr != nil {
		c.Kill(false)
	}
	ws, err := c.Wait()
	if in != nil {
		// What is left is not read, unless a child has it open: then its standard
		// input ends here.
		in.Close()
		feeder.Wait()
	}
	if err == nil {
		err = collectErr
	}
	if err == nil && o.Context().Err() != nil {
		v := &wire.RunValue{Status: wire.TimedOut, Stdout: end(out.rest()), Stderr: end(err2.rest())}
		return v, context.Canceled
	}
	if o.Context().Err() != nil {
		err = context.Canceled
	}
	if err != nil {
		return nil, err
	}
	v := &wire.RunValue{Truncated: out.truncated || err2.truncated}
	v.Status, v.Code = c.result(ws)
	// What is small goes into the result itself.
	for _, s := range []*output{&out, &err2} {
		if !o.Inline(s.n) {
			if err := s.flush(); err != nil {
				return nil, err
			}
		}
	}
	v.Stdout, v.Stderr = out.rest(), err2.rest()
	return v, nil
}

// end returns the last bytes of an output.
func end(output []byte) []byte { return output[max(0, len(output)-lastOutput):] }

// stdin returns the child's descriptor 0, 0 for /dev/null, and our end of the pipe if
// bytes remain to be written while the command runs.
func (t *Table) stdin(r *wire.Run, body *session.Body) (ours *os.File, child int, err error) {
	if len(r.Stdin.Inline) == 0 && !r.Stdin.Streamed() {
		return nil, 0, nil
	}
	var p [2]int
	if err := sys.Pipe(&p); err != nil {
		return nil, -1, err
	}
	if err := unix.SetNonblock(p[1], true); err != nil {
		unix.Close(p[0])
		unix.Close(p[1])
		return nil, -1, err
	}
	if !r.Stdin.Streamed() {
		// A pipe takes the inline bytes at once, as a rule.
		if body.Offer(func(b []byte) (int, error) { return unix.Write(p[1], b) }) {
			unix.Close(p[1])
			return nil, p[0], nil
		}
	} else {
		_, _ = sys.Call(unix.SYS_FCNTL, uintptr(p[1]), unix.F_SETPIPE_SZ, widePipe)
	}
	return os.NewFile(uintptr(p[1]), "stdin"), p[0], nil
}

// feed writes standard input until its end, or until it is not read any more.
func feed(w *os.File, body *session.Body) {
	defer w.Close()
	for {
		p, err := body.Next()
		if err != nil {
			return
		}
		if _, err := w.Write(p); err != nil {
			return
		}
	}
}
