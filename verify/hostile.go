//go:build verify

package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"
)

//go:embed hostile.lua
var hostileText string

// actLimit is the limit of an operation in hostile.lua, and actBound how long one with
// what precedes and follows it in its test may take.
const (
	actLimit = 3 * time.Second
	overrun  = time.Second
)

// hostile has guests do what they can against their host. After each act the next guest
// must be fine.
func (v *verifier) hostile(ctx context.Context, times int) error {
	text := fmt.Sprintf("local most = %d\n", times) + hostileText
	p, err := v.project(map[string]string{"provium.toml": "[profiles.host]\n", "hostile.test.lua": text})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := p.command(&out, "--timeout", "60m")
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	began := time.Now()
	ended := cmd.Wait()
	o := read(out.Bytes())
	if o.passed+o.failed == 0 {
		return fmt.Errorf("no act was tried: %w\n%s", ended, out.Bytes())
	}
	late, longest := 0, time.Duration(0)
	for name, logs := range o.logs {
		for _, line := range logs {
			value, found := strings.CutPrefix(line, "seconds of the operation: ")
			if !found {
				continue
			}
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return err
			}
			took := time.Duration(seconds * float64(time.Second))
			longest = max(longest, took)
			if took > actLimit+overrun {
				late++
				v.complain("%s: an operation with a limit of %v took %v", name, actLimit, took)
			}
		}
	}
	if o.failed > 0 {
		v.complain("hostile acts:\n%s", out.Bytes())
	}
	acts := o.passed + o.failed
	_, left := awaitEnd()
	if len(left) > 0 {
		v.complain("hostile acts have left %v", left)
	}
	v.hold(o.failed+len(left), fmt.Sprintf("%d hostile acts of guests, in %.0f s", acts, time.Since(began).Seconds()),
		"the next guest was fine after %d; survivors %d", o.passed, len(left))
	v.hold(late, fmt.Sprintf("an operation with a limit of %v beside each", actLimit), "%d ended more than %v late; "+
		"the longest took %.1f s", late, overrun, longest.Seconds())
	return nil
}
