package run

import (
	"context"
	"sync"

	"provium/internal/admission"
	"provium/internal/sched"
)

// poolClient lets one file's runner draw on the pool. It implements resources.
type poolClient struct {
	file *sched.File
	ctx  context.Context // ends with the file

	work sync.WaitGroup

	mu   sync.Mutex
	held map[uint64]*holding
}

// holding is a request, or what was granted for it.
type holding struct {
	withdraw func()   // the request
	release  []func() // each share, once granted
}

func newPoolClient(ctx context.Context, file *sched.File) *poolClient {
	return &poolClient{file: file, ctx: ctx, held: map[uint64]*holding{}}
}

// Acquire implements resources.
func (p *poolClient) Acquire(id uint64, what string, shares []admission.Share, answer func(error)) {
	parts := make([]sched.Part, len(shares))
	for i, s := range shares {
		parts[i] = sched.Part{Amount: sched.Amount{Memory: s.Memory, CPUs: s.CPUs}, Cold: s.Cold}
	}
	p.request(id, answer, func(ctx context.Context) ([]func(), error) {
		return p.file.Acquire(ctx, what, parts...)
	})
}

// Claim implements resources.
func (p *poolClient) Claim(id uint64, memory int64, cpus int, answer func(error)) {
	p.request(id, answer, func(ctx context.Context) ([]func(), error) {
		return nil, p.file.Claim(ctx, sched.Amount{Memory: memory, CPUs: cpus})
	})
}

func (p *poolClient) request(id uint64, answer func(error), ask func(context.Context) ([]func(), error)) {
	ctx, cancel := context.WithCancel(p.ctx)
	h := &holding{withdraw: cancel}
	p.mu.Lock()
	p.held[id] = h
	p.mu.Unlock()
	p.work.Add(1)
	go func() {
		defer p.work.Done()
		release, err := ask(ctx)
		p.mu.Lock()
		_, wanted := p.held[id]
		h.release = release
		if err != nil || len(release) == 0 {
			delete(p.held, id)
		}
		p.mu.Unlock()
		cancel()
		if !wanted { // dropped in the moment it was granted
			for _, r := range release {
				r()
			}
		}
		answer(err)
	}()
}

// Booted implements resources.
func (p *poolClient) Booted() { p.file.Booted() }

// Release implements resources.
func (p *poolClient) Release(id uint64, share int) {
	p.mu.Lock()
	var release func()
	if h := p.held[id]; h != nil && share >= 0 && share < len(h.release) {
		release = h.release[share] // may be called more than once
	}
	p.mu.Unlock()
	if release != nil {
		release()
	}
}

// Forget implements resources.
func (p *poolClient) Forget(id uint64) {
	p.mu.Lock()
	h := p.held[id]
	var release []func()
	if h != nil {
		release = h.release // what is granted from now on is released at once
	}
	delete(p.held, id)
	p.mu.Unlock()
	if h == nil {
		return
	}
	h.withdraw()
	for _, r := range release {
		r()
	}
}

// wait returns when no request is under way; p.ctx must have ended.
func (p *poolClient) wait() { p.work.Wait() }
