//go:build verify

package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed determinism.lua
var determinismText string

const (
	determinismPiece = 10 // runs that are compared at once
	determinismSeed  = "7"
	mostLoops        = 5
	longestLoops     = 1500 * time.Millisecond
	digestCount      = "digest "
)

// comparedTests are those of determinism.lua: what they are for the table, by name.
var comparedTests = map[string]string{
	"race":  "two processes that lose updates of a counter",
	"lossy": "three guests on a bridge that loses 20 % of all frames",
}

var sameRuns = regexp.MustCompile(`the same in (?:both|all (\d+)) runs: (\d+) sync points, digest (\w+)`)

// determinism compares so many runs of each test, beside busy loops that come and go: what guests have answered and
// printed, and their memory. Runs of another piece of this part must be the same, too.
func (v *verifier) determinism(ctx context.Context, times int, t *tally) error {
	for _, name := range slices.Sorted(maps.Keys(comparedTests)) {
		if !v.only.MatchString(name) {
			continue
		}
		p, err := v.project(map[string]string{"provium.toml": "[profiles.host]\n",
			"a.test.lua": fmt.Sprintf("local which = %q\n%s", name, determinismText)})
		if err != nil {
			return err
		}
		for n := 0; n < times && !v.late() && ctx.Err() == nil; n += determinismPiece {
			piece := max(2, min(determinismPiece, times-n))
			if err := v.compare(ctx, p, name, piece, t); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// compare compares runs with each other, and with those of earlier pieces.
func (v *verifier) compare(ctx context.Context, p *project, name string, runs int, t *tally) error {
	loaded, stop := context.WithCancel(ctx)
	gone := make(chan int)
	go func() { gone <- comeAndGo(loaded) }()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, p.program, "verify-determinism", "a.test.lua", "--seed", determinismSeed,
		"--runs", strconv.Itoa(runs))
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir, p.env, &out, &out
	err := cmd.Run()
	stop()
	t.add("loops", <-gone)
	found := sameRuns.FindSubmatch(out.Bytes())
	t.add("runs "+name, runs)
	if err != nil || found == nil {
		t.add("differ", 1)
		v.complain("%s: %v\n%s", name, err, out.Bytes())
		return ctx.Err()
	}
	points, err := strconv.Atoi(string(found[2]))
	if err != nil {
		return err
	}
	t.add("points", points*runs)
	key := digestCount + name + " "
	for other := range t.Counts {
		if strings.HasPrefix(other, key) && other != key+string(found[3]) {
			t.add("differ", 1)
			v.complain("%s: the digest is %s, and was %s in an earlier piece", name, found[3], other[len(key):])
			break
		}
	}
	t.add(key+string(found[3]), runs)
	return nil
}

// comeAndGo has up to mostLoops busy loops run at a time, until ctx ends. It returns how many there were.
func comeAndGo(ctx context.Context) (all int) {
	for ctx.Err() == nil {
		some, stop := context.WithTimeout(ctx, rand.N(longestLoops))
		var loops []*exec.Cmd
		for range rand.N(mostLoops + 1) {
			loop := exec.CommandContext(some, "sh", "-c", "while :; do :; done")
			if loop.Start() == nil {
				loops = append(loops, loop)
			}
		}
		all += len(loops)
		<-some.Done()
		stop()
		for _, loop := range loops {
			_ = loop.Wait() // it was killed
		}
	}
	return all
}

func determinismRows(t *tally) []row {
	var tried []string
	for _, name := range slices.Sorted(maps.Keys(comparedTests)) {
		if n := t.Counts["runs "+name]; n > 0 {
			tried = append(tried, fmt.Sprintf("%d runs of %s", n, comparedTests[name]))
		}
	}
	differ := t.Counts["differ"]
	return []row{hold(differ, strings.Join(tried, ", ")+fmt.Sprintf(", beside %d busy loops that come and go",
		t.Counts["loops"]), "answers, consoles and memory at %d sync points; pieces of %d runs that differ: %d",
		t.Counts["points"], determinismPiece, differ)}
}
