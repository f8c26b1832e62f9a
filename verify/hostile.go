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

// actMark begins the line of an act in hostile.lua. An operation there has actLimit, and
// may end overrun later.
const (
	actMark  = "\n  {\""
	actLimit = 3 * time.Second
	overrun  = time.Second
)

// hostile has guests do what they can against their host. After each act the next guest
// must be fine.
func (v *verifier) hostile(ctx context.Context, times int) error {
	files := map[string]string{"provium.toml": "[profiles.host]\n"}
	acts := min(times, strings.Count(hostileText, actMark))
	for i := range acts {
		files[fmt.Sprintf("act%02d.test.lua", i+1)] = fmt.Sprintf("local only = %d\n%s", i+1, hostileText)
	}
	p, err := v.project(files)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := p.command(&out, "--jobs", "2", "--timeout", "120")
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
	if ended != nil {
		v.complain("hostile acts: %v\n%s", ended, out.Bytes())
	}
	bad := acts - o.passed
	_, left := awaitEnd()
	if len(left) > 0 {
		v.complain("hostile acts have left %v", left)
	}
	v.hold(bad+len(left), fmt.Sprintf("%d hostile acts of guests, in %.0f s", acts, time.Since(began).Seconds()),
		"the next guest was fine after %d; survivors %d", o.passed, len(left))
	v.hold(late, fmt.Sprintf("an operation with a limit of %v beside each", actLimit), "%d ended more than %v late; "+
		"the longest took %.1f s", late, overrun, longest.Seconds())
	return nil
}
