//go:build verify

package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed verdicts.lua
var verdictsText string

// How long a panic may take to be a verdict, and a log to be read from memory.
const (
	verdictLimit = 200 * time.Millisecond
	logLimit     = 50 * time.Millisecond
)

// verdicts measures how long it takes from the words of a panic on the console to the test that has failed, and how
// long the log of a kernel takes from the memory of a guest of 512 MiB.
func (v *verifier) verdicts(ctx context.Context, times int, t *tally) error {
	p, err := v.project(map[string]string{"provium.toml": "[profiles.host]\n",
		"verdicts.test.lua": fmt.Sprintf("local times = %d\n%s", times, verdictsText)})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	events := filepath.Join(p.dir, "events.jsonl")
	cmd := p.command(&out, "--save-events", events, "--events-format", "jsonl")
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	ended := cmd.Wait()
	file, err := os.Open(events)
	if err != nil {
		return fmt.Errorf("%w: %w\n%s", err, ended, out.Bytes())
	}
	defer file.Close()
	panicked := map[string]int64{} // when the words came, by test
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 32<<20)
	for lines.Scan() {
		var e struct {
			TS      int64
			Kind    string
			Payload struct {
				Name, Call, Reason string
				StartNS            int64 `json:"start_ns"`
				DurationNS         int64 `json:"duration_ns"`
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return err
		}
		name, took := e.Payload.Name, time.Duration(e.Payload.DurationNS)
		switch {
		case e.Kind == "operation_ended" && strings.Contains(e.Payload.Call, ":expect("):
			panicked[name] = e.Payload.StartNS + e.Payload.DurationNS
		case e.Kind == "operation_ended" && strings.Contains(e.Payload.Call, ":dmesg("):
			t.Logs = append(t.Logs, took)
		case e.Kind == "test_failed" && panicked[name] != 0 &&
			strings.Contains(e.Payload.Reason, "sysrq triggered crash"):
			t.Times = append(t.Times, time.Duration(e.TS-panicked[name]))
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	t.add("panics", times)
	if len(t.Times) < t.Counts["panics"] || len(t.Logs) < t.Counts["panics"] {
		t.add("bad", 1)
		v.complain("verdicts: %d panics failed a test, %d logs were read: %v\n%s", len(t.Times), len(t.Logs), ended,
			out.Bytes())
	}
	return nil
}

func verdictsRows(t *tally) []row {
	judge := func(tried string, times []time.Duration, limit time.Duration) row {
		if len(times) == 0 {
			return hold(1, tried, "not measured")
		}
		slices.Sort(times)
		median, bad := times[len(times)/2], 0
		if median > limit {
			bad = 1
		}
		return hold(bad, tried, "%v in the median, %v at most (wanted: %v)", median.Round(time.Millisecond),
			times[len(times)-1].Round(time.Millisecond), limit)
	}
	verdict := judge(fmt.Sprintf("from the words of a panic on the console to the test that has failed, %d times",
		t.Counts["panics"]), slices.Clone(t.Times), verdictLimit)
	verdict.bad += t.Counts["bad"]
	return []row{verdict, judge("the log of a kernel from the memory of a restored guest of 512 MiB",
		slices.Clone(t.Logs), logLimit)}
}
