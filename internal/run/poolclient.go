package run

import (
	"context"
	"sync"

	"provium/internal/sched"
)

// poolClient lets one file's runner draw on the pool. It implements resources.
type poolClient struct {
	file *sched.File
	ctx  context.Context // ends with the file

	work sync.WaitGroup

	mu   sync.Mutex
	held map[uint64]func() // releases what was granted, or withdraws a request
}

func newPoolClient(ctx context.Context, file *sched.File) *poolClient {
	return &poolClient{file: file, ctx: ctx, held: map[uint64]func(){}}
}

// Acquire implements resources.
func (p *poolClient) Acquire(id uint64, vm string, memory int64, cpus int, answer func(error)) {
	p.request(id, answer, func(ctx context.Context) (func(), error) {
		return p.file.Acquire(ctx, "vm `"+vm+"`", sched.Amount{Memory: memory, CPUs: cpus})
	})
}

// Claim implements resources.
func (p *poolClient) Claim(id uint64, memory int64, cpus int, answer func(error)) {
	p.request(id, answer, func(ctx context.Context) (func(), error) {
		return func() {}, p.file.Claim(ctx, sched.Amount{Memory: memory, CPUs: cpus})
	})
}

func (p *poolClient) request(id uint64, answer func(error), ask func(context.Context) (func(), error)) {
	ctx, cancel := context.WithCancel(p.ctx)
	p.mu.Lock()
	p.held[id] = cancel
	p.mu.Unlock()
	p.work.Add(1)
	go func() {
		defer p.work.Done()
		release, err := ask(ctx)
		p.mu.Lock()
		_, wanted := p.held[id]
		switch {
		case err != nil:
			delete(p.held, id)
		case wanted:
			p.held[id] = release
		}
		p.mu.Unlock()
		cancel()
		if err == nil && !wanted { // dropped in the moment it was granted
			release()
		}
		answer(err)
	}()
}

// Release implements resources.
func (p *poolClient) Release(id uint64) {
	p.mu.Lock()
	release := p.held[id]
	delete(p.held, id)
	p.mu.Unlock()
	if release != nil {
		release()
	}
}

// wait returns when no request is under way; p.ctx must have ended.
func (p *poolClient) wait() { p.work.Wait() }
