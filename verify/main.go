//go:build verify

// Command verify tries to break a build of Provium from outside, and writes down what
// held: it kills runs at random moments, lets guests be hostile, has system calls of the
// program fail, damages its caches, and loads the machine. docs/reliability.md is made of
// its figures.
//
// It exits 0 if everything held. Arguments name the parts to be run, in place of all, and
// how often, as in "kills=20 hostile". "report=PATH" writes the page, with the latest
// figures of the parts that were not run. "seconds=N" ends each part after about that time,
// however often it was tried by then.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"provium/internal/hostfault"
)

// part is something that a build must withstand.
type part struct {
	name  string
	times int // how often, unless the command line says; 0: once
	try   func(v *verifier, ctx context.Context, times int) error
}

// parts are run in this order.
var parts = [...]part{
	{"kills", 500, (*verifier).kills},
	{"hostile", 40, (*verifier).hostile},
	{"sweeps", 0, (*verifier).sweeps},
	{"calls", 200, (*verifier).calls},
	{"caches", 0, (*verifier).caches},
	{"load", 0, (*verifier).load},
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == supervised {
		fmt.Fprintln(os.Stderr, "verify:", hostfault.Exec(os.Args[2:], os.Environ()))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(1)
	}
}

// choice is what the command line asks for.
type choice struct {
	times  map[string]int // of the parts that were named
	report string
	limit  time.Duration // of a part; 0: none
}

func parse(args []string) (c choice, err error) {
	c.times = map[string]int{}
	for _, arg := range args {
		name, value, given := strings.Cut(arg, "=")
		at := slices.IndexFunc(parts[:], func(p part) bool { return p.name == name })
		switch {
		case name == "report" && given:
			c.report = value
		case name == "seconds" && given:
			seconds, err := strconv.Atoi(value)
			if err != nil {
				return c, fmt.Errorf("%s: %w", arg, err)
			}
			c.limit = time.Duration(seconds) * time.Second
		case at < 0:
			return c, fmt.Errorf("no part %q", name)
		case given:
			if c.times[name], err = strconv.Atoi(value); err != nil {
				return c, fmt.Errorf("%s: %w", arg, err)
			}
		default:
			c.times[name] = parts[at].times
		}
	}
	if len(c.times) == 0 {
		for _, p := range parts {
			c.times[p.name] = p.times
		}
	}
	return c, nil
}

func run(ctx context.Context, args []string) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	v, err := newVerifier()
	if err != nil {
		return err
	}
	defer v.close()
	for _, p := range parts {
		times, wanted := c.times[p.name]
		if !wanted {
			continue
		}
		began := time.Now()
		v.part, v.until = p.name, time.Time{}
		if c.limit > 0 {
			v.until = began.Add(c.limit)
		}
		if err := p.try(v, ctx, times); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Fprintf(os.Stderr, "verify: %s took %.0f s\n", p.name, time.Since(began).Seconds())
	}
	printTable(os.Stdout, v.rows)
	if c.report != "" {
		if err := v.writeReport(c.report); err != nil {
			return err
		}
	}
	if v.failed() {
		return fmt.Errorf("not everything held")
	}
	return nil
}
