package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"provium/internal/event"
	"provium/internal/forkserver"
	"provium/internal/hostload"
	"provium/internal/hosttsc"
	"provium/internal/image"
	"provium/internal/proc"
	"provium/internal/qemu"
	"provium/internal/templates"
)

// RunnerFD is the descriptor on which a runner process finds its pipe to the
// dispatcher.
const RunnerFD = 3

// Runner is the main function of a runner process: it runs test files, one after the other, as
// told over the pipe, and reports over it. It returns an error only when there
// is nobody to report to.
func Runner(pipe *os.File, filter string) error {
	p := &process{pipe: pipe, filter: filter, runners: make(chan *runner, 1), shared: newMachinery()}
	defer p.shared.close()
	go p.listen()
	for r := range p.runners {
		if again, err := r.run(); err != nil || !again {
			return err
		}
	}
	return p.err
}

// process is a runner process. It has one runner at a time.
type process struct {
	pipe    *os.File
	filter  string
	shared  *machinery
	runners chan *runner // closed when the dispatcher is gone
	err     error        // set before that
}

// listen takes what the dispatcher says until it is gone.
func (p *process) listen() {
	defer close(p.runners)
	in := newMessagePipe(p.pipe, nil)
	var now *runner
	for {
		m, err := in.receive()
		switch {
		case err != nil && now == nil:
			p.err = fmt.Errorf("runner: %w", err)
			return
		case err != nil:
			if err != io.EOF {
				fmt.Fprintf(os.Stderr, "provium: %v\n", err)
			}
			now.cancel(&stopError{"the dispatcher is gone", "interrupted"})
			return
		case m.Job != nil:
			m.Job.Filter = p.filter
			now = newRunner(m.Job, p.pipe, p.shared)
			p.runners <- now
		case now == nil:
			p.err = errors.New("runner: the first message is no job")
			return
		default:
			now.take(m)
		}
	}
}

func newRunner(j *job, pipe *os.File, shared *machinery) *runner {
	r := &runner{job: j, shared: shared, pipe: newMessagePipe(pipe, pipe), waiting: map[uint64]chan answer{}}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	r.pauses = newPauses(r)
	return r
}

// machinery is what the files of a process share.
type machinery struct {
	starter   *proc.Starter
	copies    *forkserver.Starter
	templates templates.Store[*qemu.Template]
	tsc       hosttsc.Meter
	images    *image.Store // of the last file, nil before the first
}

// imagesOf returns the cache of images for a file, which knows what earlier files have found out.
func (m *machinery) imagesOf(j *job, emit func(event.Event), waiting func() func()) (*image.Store, error) {
	images, err := newImages(j, m.starter, emit, waiting)
	if err != nil {
		return nil, err
	}
	if m.images != nil {
		images.Continue(m.images)
	}
	m.images = images
	return images, nil
}

func newMachinery() *machinery {
	starter := proc.NewStarter()
	m := &machinery{starter: starter, copies: forkserver.NewStarter(starter)}
	m.tsc.Start()
	return m
}

func (m *machinery) close() {
	m.templates.Close()
	m.copies.Close()
	m.starter.Close()
}

// isIdle reports whether nothing that a file has started still runs, on the host or as a guest.
func (m *machinery) isIdle() bool {
	servers, busy := m.copies.Servers()
	return !busy && proc.IsAlone(servers)
}

// cpuTime returns the CPU time of this process, of what it has waited for, and of the fork servers with what they have
// made.
func (m *machinery) cpuTime() time.Duration {
	used := proc.CPUTime()
	servers, _ := m.copies.Servers()
	for _, pid := range servers {
		used += hostload.TreeTime(os.DirFS("/"), pid)
	}
	return used
}
