package run

import (
	"context"
	"sync"

	"provium/internal/sched"
)

// poolFunds lets one file's runner draw on the pool. It implements funds.
type poolFunds struct {
	file *sched.File
	ctx  context.Context // ends with the file

	work sync.WaitGroup

	mu   sync.Mutex
	held map[uint64]func() // gives back what was granted, or gives up a request
}

func newPoolFunds(ctx context.Context, file *sched.File) *poolFunds {
	return &poolFunds{file: file, ctx: ctx, held: map[uint64]func(){}}
}

// Charge implements funds.
func (p *poolFunds) Charge(id uint64, vm string, memory int64, cpus int, answer func(error)) {
	p.request(id, answer, func(ctx context.Context) (func(), error) {
		return p.file.Acquire(ctx, "vm `"+vm+"`", sched.Amount{Memory: memory, CPUs: cpus})
	})
}

// Claim implements funds.
func (p *poolFunds) Claim(id uint64, memory int64, cpus int, answer func(error)) {
	p.request(id, answer, func(ctx context.Context) (func(), error) {
		return func() {}, p.file.Claim(ctx, sched.Amount{Memory: memory, CPUs: cpus})
	})
}

func (p *poolFunds) request(id uint64, answer func(error), ask func(context.Context) (func(), error)) {
	ctx, cancel := context.WithCancel(p.ctx)
	p.mu.Lock()
	p.held[id] = cancel
	p.mu.Unlock()
	p.work.Add(1)
	go func() {
		defer p.work.Done()
		giveBack, err := ask(ctx)
		p.mu.Lock()
		_, wanted := p.held[id]
		switch {
		case err != nil:
			delete(p.held, id)
		case wanted:
			p.held[id] = giveBack
		}
		p.mu.Unlock()
		cancel()
		if err == nil && !wanted { // dropped in the moment it was granted
			giveBack()
		}
		answer(err)
	}()
}

// Drop implements funds.
func (p *poolFunds) Drop(id uint64) {
	p.mu.Lock()
	giveBack := p.held[id]
	delete(p.held, id)
	p.mu.Unlock()
	if giveBack != nil {
		giveBack()
	}
}

// wait returns when no request is under way; p.ctx must have ended.
func (p *poolFunds) wait() { p.work.Wait() }
