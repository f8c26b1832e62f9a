package lab

import (
	"time"

	"provium/internal/lab/shaped"
	"provium/internal/ready"
	"provium/internal/topology"
)

// condition returns what a boot waits for.
func (v *VM) condition(opts *topology.BootOpts) ready.Condition {
	if opts.Wait == "" {
		return v.profile.Ready
	}
	c, _ := ready.Parse(opts.Wait) // was checked with the other options
	return c
}

// agentIsOptional reports whether a boot does not wait for an agent. What a profile waits for on the console, guests
// print that have the agent, too.
func (v *VM) agentIsOptional(opts *topology.BootOpts) bool {
	c := v.condition(opts)
	return !c.NeedsAgent() && (opts.Wait != "" || c.Kind == ready.None || v.profile.Image.NoAgent)
}

// readyTimeout returns what a guest has for what its boot waits for beside the agent, as instance.Config has it.
func (v *VM) readyTimeout(accel string) time.Duration {
	return shaped.ReadyTimeout(v.profile.ReadyTimeout, accel)
}

// bootTimeout returns the most that a boot takes, fairly measured.
func (v *VM) bootTimeout(p *startPlan) time.Duration {
	all := v.agentTimeout(p.opts, p.cfg.Accel)
	if v.condition(p.opts).Kind == ready.Agent {
		return all
	}
	return all + max(v.readyTimeout(p.cfg.Accel), -v.readyTimeout(p.cfg.Accel))
}
