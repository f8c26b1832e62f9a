//go:build verify

package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed soak.lua
var soakText string

const (
	soakTime  = 10 * time.Minute // unless the command line has a limit or a number of runs
	soakFiles = 4                // of a run
	soakJobs  = "2"              // of them at the same time, so that processes run several
	soakActs  = 10               // of a file, unless the command line says
	soakRow   = 60               // guests one after the other in an act, where a number of guests is asked for

	// chaosEvery is how many runs come to one whose processes are killed and stopped.
	chaosEvery = 3

	// soakLimit is how long a run may take.
	soakLimit = 20 * time.Minute
)

// soak runs files of random acts again and again, all of which must pass. In some runs
// processes of ours are killed and stopped at random moments: what fails then must say why.
func (v *verifier) soak(ctx context.Context, times int, t *tally) error {
	p, err := v.project(map[string]string{"provium.toml": "[profiles.host]\nboot_compressed = false\n"})
	if err != nil {
		return err
	}
	if times == 0 && v.until.IsZero() && v.guests == 0 {
		v.until = time.Now().Add(soakTime)
	}
	var good contents
	row := 0
	if v.guests > 0 {
		row = soakRow
	}
	for i := 0; (times == 0 || i < times) && !v.late() && (v.guests == 0 || t.guests() < v.guests); i++ {
		if err := p.drawActs(v.random, v.acts, row); err != nil {
			return err
		}
		chaos := i%chaosEvery == chaosEvery-1
		o, err := v.soakRun(ctx, p, chaos, t)
		if err != nil {
			return err
		}
		v.judge(o, chaos, t)
		if _, left := awaitEnd(); len(left) > 0 {
			t.add("survivors", len(left))
			v.complain("soak run %d has left %v", i, left)
		}
		if good == nil {
			if good, err = p.readImages(); err != nil {
				return err
			}
		}
		entries, err := p.halfEntries(ctx, good)
		if err != nil {
			return err
		}
		for _, e := range entries {
			v.complain("soak run %d: %s", i, e)
		}
		t.add("half", len(entries))
		fmt.Fprintf(os.Stderr, "verify: soak run %d: %d acts, %d guests, %d failures, %d unexplained\n", i+1,
			t.Counts["acts"], t.guests(), t.Counts["failures"], t.Counts["unexplained"])
	}
	return nil
}

// guests returns how many guests were booted, restored and forked.
func (t *tally) guests() int { return t.Counts["boots"] + t.Counts["restores"] + t.Counts["forks"] }

// drawActs writes the files of a run, of so many acts each. row is how many guests come one after the other in some
// acts.
func (p *project) drawActs(random *rand.Rand, acts, row int) error {
	for i := range soakFiles {
		text := fmt.Sprintf("local seed, acts, row = %d, %d, %d\n%s", random.Uint32(), acts, row, soakText)
		path := filepath.Join(p.dir, fmt.Sprintf("soak%d.test.lua", i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// soakRun runs the files once. It has chaos in its processes if that is asked for.
func (v *verifier) soakRun(ctx context.Context, p *project, chaos bool, t *tally) (outcome, error) {
	var out bytes.Buffer
	cmd := p.command(&out, "--jobs", soakJobs, "--timeout", fmt.Sprint(int(soakLimit.Seconds())))
	cmd.WaitDelay = endLimit
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // its tests say how it ended
	limit := time.After(soakLimit + time.Minute)
	for {
		next := time.Hour
		if chaos {
			next = time.Duration(v.random.Int64N(int64(4 * time.Second)))
		}
		select {
		case <-ended:
			return read(out.Bytes()), nil
		case <-ctx.Done():
			_ = cmd.Process.Kill()
			<-ended
			return outcome{}, context.Cause(ctx)
		case <-limit:
			_ = cmd.Process.Kill()
			<-ended
			return outcome{}, fmt.Errorf("a run of acts has not ended within %v\n%s", soakLimit, out.Bytes())
		case <-time.After(next):
			v.hit(cmd.Process.Pid, t)
		}
	}
}

// kinds of processes of a run, by what their command lines have. Chaos chooses a kind first, so that those of which
// there are few are met as often as the others.
var kinds = []struct{ name, mark string }{
	{"templates", "provium-template"},
	{"fork servers", "provium-fork-server"},
	{"guests", "\x00guest="},
	{"runners", "\x00__runner\x00"},
	{"others", ""}, // keepers, programs of tests
}

// byKind sorts processes by their kinds. The run itself, which kills kill, is left out.
func byKind(all []process, run int) map[string][]process {
	out := map[string][]process{}
	for _, p := range all {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
		if err != nil || p.pid == run {
			continue
		}
		for _, k := range kinds {
			if bytes.Contains(text, []byte(k.mark)) {
				out[k.name] = append(out[k.name], p)
				break
			}
		}
	}
	return out
}

// hit kills, or stops for a while, one of the processes that a run has started.
func (v *verifier) hit(run int, t *tally) {
	found := byKind(descendants(), run)
	if len(found) == 0 {
		return
	}
	kind := slices.Sorted(maps.Keys(found))[v.random.IntN(len(found))]
	p := found[kind][v.random.IntN(len(found[kind]))]
	if v.random.IntN(2) == 0 {
		if unix.Kill(p.pid, syscall.SIGKILL) == nil {
			t.add("killed "+kind, 1)
		}
		return
	}
	if unix.Kill(p.pid, syscall.SIGSTOP) == nil {
		t.add("stopped "+kind, 1)
		time.Sleep(time.Duration(v.random.Int64N(int64(time.Second))))
		_ = unix.Kill(p.pid, syscall.SIGCONT)
	}
}

// chaosFigure says what chaos has hit: how many were killed, and how many were stopped.
func chaosFigure(t *tally) string {
	var out []string
	for _, k := range kinds {
		out = append(out, fmt.Sprintf("%s %d and %d", k.name, t.Counts["killed "+k.name], t.Counts["stopped "+k.name]))
	}
	return strings.Join(out, ", ")
}

// explained matches the reasons of failures that follow from a process that was killed.
var explained = regexp.MustCompile(`signal: killed|qemu ended: |is dead|crashed|the agent is lost|` +
	`no sign of life|processes of |guest is not running|poisoned`)

// judge counts what a run of acts has done, and the failures that nothing explains.
func (v *verifier) judge(o outcome, chaos bool, t *tally) {
	t.add("runs", 1)
	if chaos {
		t.add("chaos", 1)
	}
	if o.files != soakFiles {
		t.add("unexplained", 1)
		v.complain("%d files of acts, and not %d, had a result\n%s", o.files, soakFiles, o.text)
	}
	for name, message := range o.messages {
		t.add("failures", 1)
		if !chaos || !explained.MatchString(message) {
			t.add("unexplained", 1)
			v.complain("%s: %s", name, message)
		}
	}
	if !chaos && len(o.messages) > 0 {
		v.complain("%s", o.text)
	}
	for _, logs := range o.logs {
		for _, line := range logs {
			for _, what := range []string{"acts", "boots", "restores", "forks"} {
				var n int
				if rest, ok := strings.CutPrefix(line, what+": "); ok {
					if _, err := fmt.Sscan(rest, &n); err == nil {
						t.add(what, n)
					}
				}
			}
		}
	}
}

func soakRows(t *tally) []row {
	bad := t.Counts["unexplained"] + t.Counts["survivors"] + t.Counts["half"]
	return []row{hold(bad, fmt.Sprintf("%d random acts in %d runs, in %d of which random processes were killed or "+
		"stopped (%s)", t.Counts["acts"], t.Counts["runs"], t.Counts["chaos"], chaosFigure(t)),
		"%d boots, %d restores, %d forks; %d failures, of which unexplained: %d; survivors %d; half entries %d",
		t.Counts["boots"], t.Counts["restores"], t.Counts["forks"], t.Counts["failures"], t.Counts["unexplained"],
		t.Counts["survivors"], t.Counts["half"])}
}
