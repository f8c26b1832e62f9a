//go:build verify

package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"regexp"
	"slices"
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
func (v *verifier) hostile(ctx context.Context, times int, t *tally) error {
	files := map[string]string{"provium.toml": "[profiles.host]\n"}
	acts := 0
	for i, act := range strings.Split(hostileText, actMark)[1:] {
		name, _, _ := strings.Cut(act, `"`)
		if i >= times || !v.only.MatchString(fmt.Sprintf("%02d %s", i+1, name)) {
			continue
		}
		acts++
		files[fmt.Sprintf("act%02d.test.lua", i+1)] = fmt.Sprintf("local only = %d\n%s", i+1, hostileText)
	}
	p, err := v.project(files)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := p.command(&out, "--jobs", "2", "--timeout", "360")
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
	for name, logs := range o.logs {
		for _, line := range logs {
			value, found := strings.CutPrefix(line, "seconds of the operation: ")
			if _, much := strings.CutPrefix(line, "seconds of the operation with its output: "); much {
				t.add("outputs", 1)
			}
			if !found {
				continue
			}
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return err
			}
			took := time.Duration(seconds * float64(time.Second))
			t.Times = append(t.Times, took)
			if took-uncharged(logs) > actLimit+overrun {
				t.add("late", 1)
				v.complain("%s: an operation with a limit of %v took %v", name, actLimit, took)
			}
		}
	}
	if ended != nil {
		v.complain("hostile acts: %v\n%s", ended, out.Bytes())
	}
	_, left := awaitEnd()
	if len(left) > 0 {
		v.complain("hostile acts have left %v", left)
	}
	t.add("acts", acts)
	t.add("fine", o.passed)
	t.add("survivors", len(left))
	t.add("seconds", int(time.Since(began).Seconds()))
	return nil
}

var (
	unchargedText = regexp.MustCompile(`of which ([0-9.hms]+) do not count`)
	waitedText    = regexp.MustCompile(`(?m)^seconds without a CPU behind the limit: ([0-9.]+)$`)
)

// uncharged returns what an act was not charged, since this machine left its guest no CPU: as its error says, or, where
// the guest has confirmed the end, as the guest's threads have waited for a CPU since the limit.
func uncharged(logs []string) time.Duration {
	text := strings.Join(logs, "\n")
	if m := unchargedText.FindStringSubmatch(text); m != nil {
		d, _ := time.ParseDuration(m[1]) // else nothing
		return d
	}
	if m := waitedText.FindStringSubmatch(text); m != nil {
		d, _ := time.ParseDuration(m[1] + "s") // else nothing
		return d
	}
	return 0
}

func hostileRows(t *tally) []row {
	acts, fine, left, late := t.Counts["acts"], t.Counts["fine"], t.Counts["survivors"], t.Counts["late"]
	longest := slices.Max(append(t.Times, 0))
	return []row{
		hold(acts-fine+left, fmt.Sprintf("%d hostile acts of guests, in %d s", acts, t.Counts["seconds"]),
			"the next guest was fine after %d; survivors %d", fine, left),
		hold(late, fmt.Sprintf("an operation with a limit of %v beside each (%d have more than 4 MiB of output to "+
			"bring, and are not counted)", actLimit, t.Counts["outputs"]), "%d ended more than %v late; the longest "+
			"took %.1f s", late, overrun, longest.Seconds()),
	}
}
