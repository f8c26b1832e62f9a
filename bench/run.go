//go:build bench

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"provium/internal/event"
)

const programFile = "bin/provium"

// project is a directory with test files, run by the program.
type project struct {
	b            *bench
	program, dir string
}

// project makes one with a profile, "host", and files by name.
func (b *bench) project(files map[string]string) (*project, error) {
	program, err := filepath.Abs(programFile)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%w; run make build", err)
	}
	dir, err := os.MkdirTemp(b.dir, "project")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "provium.toml"), []byte("[profiles.host]\n"), 0o600); err != nil {
		return nil, err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return &project{b, program, dir}, nil
}

// run runs all files, which must pass, with env beside our own environment.
func (p *project) run(ctx context.Context, env []string, args ...string) error {
	stdout, stderr, err := p.b.starter.Run(ctx, p.dir, env, p.program, args...)
	if err != nil {
		return fmt.Errorf("%w\n%s%s", err, stdout, stderr)
	}
	return nil
}

// passedTimes runs all files and adds how long the tests took that passed.
func (p *project) passedTimes(ctx context.Context, took map[string]sample, args ...string) error {
	path := filepath.Join(p.dir, "events")
	if err := p.run(ctx, nil, append(args, "--save-events", path)...); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	d := event.NewDecoder(f)
	for {
		env, err := d.Decode()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if e, ok := env.Event.(event.TestPassed); ok {
			took[e.Name] = append(took[e.Name], time.Duration(e.DurationNS))
		}
	}
}

// wholeRun runs the program on four files with ten guests between them. The
// reference is ten plain guests one after the other.
func (b *bench) wholeRun(ctx context.Context) error {
	files, total := map[string]string{}, 0
	for file, guests := range []int{3, 3, 2, 2} {
		var text strings.Builder
		for i := range guests {
			fmt.Fprintf(&text, "test(\"boots %d\", function(t)\n  local vm = provium:vm(\"v%d\", \"host\", {cold = "+
				"true}):boot()\n  t:assert(vm:run(\"true\"):ok())\nend)\n", i, i)
		}
		total += guests
		files[fmt.Sprintf("f%d.test.lua", file)] = text.String()
	}
	p, err := b.project(files)
	if err != nil {
		return err
	}
	var ours, raw sample
	for range 2 {
		start := time.Now()
		if err := p.run(ctx, nil); err != nil {
			return err
		}
		ours = append(ours, time.Since(start))
		start = time.Now()
		for range total {
			if _, err := b.rawBoot(ctx); err != nil {
				return err
			}
		}
		raw = append(raw, time.Since(start))
	}
	b.table.info(fmt.Sprintf("provium, 4 files, %d guests / as many raw boots in a row", total), ours.String(),
		raw.String(),
		fmt.Sprintf("%.2f", float64(ours.median())/float64(raw.median())))
	info, err := os.Stat(p.program)
	if err != nil {
		return err
	}
	b.table.info("host binary, agent and busybox included", mib(uint64(info.Size())), "", "")
	return nil
}

// laterFiles runs files of a boot from the cache and a command, one after the other. The reference is the first of
// them, for which nothing was there.
func (b *bench) laterFiles(ctx context.Context) error {
	const files = 20
	texts := map[string]string{}
	for i := range files {
		texts[fmt.Sprintf("f%02d.test.lua", i)] = fmt.Sprintf("test(\"file %d\", function(t)\n"+
			"  t:assert(provium:vm(\"v\", \"host\"):boot():run(\"true\"):ok())\nend)\n", i)
	}
	p, err := b.project(texts)
	if err != nil {
		return err
	}
	var first, later sample
	for round := range 4 { // the first fills the boot cache
		took := map[string]sample{}
		if err := p.passedTimes(ctx, took, "--jobs", "1"); err != nil {
			return err
		}
		for i := range files {
			switch each := took[fmt.Sprintf("file %d", i)]; {
			case round == 0:
			case i == 0:
				first = append(first, each...)
			default:
				later = append(later, each...)
			}
		}
	}
	b.table.compare(row{figure: "boot from the boot cache to first completed op, in a process's second file and later",
		value: later.String(), reference: first.String(),
		ratio: fmt.Sprintf("%.2f", float64(later.median())/float64(first.median())), target: "<= 60 ms"},
		later.median() <= 60*time.Millisecond)
	return nil
}
