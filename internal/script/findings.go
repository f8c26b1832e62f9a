package script

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"provium/internal/console"
	"provium/internal/lab"
	"provium/internal/topology"
)

// aliveLimit is how long a VM may take to answer after a test was stopped.
const aliveLimit = 10 * time.Second

// watchHost stops the running execution when a guest panics, and keeps waits for the pool
// from counting against its time limit, until stop is called.
func (s *session) watchHost() (stop func()) {
	return s.Host.Observe(lab.Observer{
		PoolWait: s.clock.pause,
		Finding: func(vm *lab.VM, finding console.Finding) {
			s.mu.Lock()
			e := s.current
			s.mu.Unlock()
			if finding.Panic && e != nil && !vm.Expendable() {
				e.guestPanicked(vm, finding.Title)
			}
		},
	})
}

// takeFindings describes the guest failures seen since it was last called. It waits for
// what is on its way from the consoles.
func (s *session) takeFindings(vms []*lab.VM) []string {
	var out []string
	_ = s.state.Block(func() error {
		for _, vm := range vms {
			out = append(out, describeFindings(vm)...)
		}
		return nil
	})
	return out
}

// describeFindings takes the findings of one VM.
func describeFindings(vm *lab.VM) []string {
	var out []string
	for _, finding := range vm.TakeFindings() {
		text := fmt.Sprintf("guest failure on vm `%s`: %s", vm.Name(), finding.Title)
		if finding.Excerpt != "" {
			text += "\n" + strings.TrimRight(finding.Excerpt, "\n")
		}
		out = append(out, text)
	}
	return out
}

// consoles shows the end of the consoles of the given VMs.
func consoles(vms []*lab.VM) string {
	const keep = 4 << 10 // bytes per VM
	var b strings.Builder
	for _, vm := range vms {
		console := vm.Console()
		tail := console.Tail(keep)
		if len(tail) == 0 {
			continue
		}
		fmt.Fprintf(&b, "--- console of vm `%s` ---\n%s", vm.Name(), tail)
		if tail[len(tail)-1] != '\n' {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// checkAlive pings each VM of file scope. One that does not answer is dead from then on, so
// that the next test does not wait for it.
func (s *session) checkAlive() {
	_ = s.state.Block(func() error {
		var asking sync.WaitGroup
		for _, vm := range s.root.AllVMs() {
			if vm.State() != topology.Booted {
				continue
			}
			asking.Go(func() {
				ctx, cancel := context.WithTimeout(s.ctx, aliveLimit)
				defer cancel()
				if err := vm.Ping(ctx); err != nil && s.ctx.Err() == nil && vm.State() == topology.Booted {
					vm.MarkDead(fmt.Sprintf("no sign of life after a test was stopped: %v", err))
				}
			})
		}
		asking.Wait()
		return nil
	})
}
