package script

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/topology"
)

// aliveLimit is how long a VM may take to answer after a test was stopped.
const aliveLimit = 10 * time.Second

// takeFindings describes the guest failures seen since it was last called. It waits for
// what is on its way from the consoles.
func takeFindings(state *lua.State, vms []*lab.VM) []string {
	var out []string
	_ = state.Block(func() error {
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

// checkAlive pings VMs that run. One that does not answer is dead from then on, so
// that the next test does not wait for it.
func checkAlive(ctx context.Context, state *lua.State, vms []*lab.VM) {
	_ = state.Block(func() error {
		var asking sync.WaitGroup
		for _, vm := range vms {
			if vm.State() != topology.Booted {
				continue
			}
			asking.Go(func() {
				limited, cancel := context.WithTimeout(ctx, aliveLimit)
				defer cancel()
				if err := vm.Ping(limited); err != nil && ctx.Err() == nil && vm.State() == topology.Booted {
					vm.MarkDead(fmt.Sprintf("no sign of life after a test was stopped: %v", err))
				}
			})
		}
		asking.Wait()
		return nil
	})
}
