//go:build verify

// Command verify tries to break a build of Provium from outside, and writes down what
// held: it kills runs at random moments, lets guests be hostile, has system calls of the
// program fail, damages its caches, loads the machine, and has guests do random acts for
// long. docs/reliability.md is made of its figures.
//
// It exits 0 if everything held. Arguments name the parts to be run, in place of all, and
// how often, as in "kills=20 hostile". "report=PATH" writes the page, with the latest
// figures of the parts that were not run. "seconds=N" ends each part after about that time,
// however often it was tried by then; "guests=N" ends the soak after so many guests, and
// "acts=N" has each of its files do so many acts. With
// "add" the figures are added to those of earlier runs of the same parts, and "only=PATTERN"
// tries what has such a name, and "piece=2/5" every fifth call of the sweeps from the second
// on: these are for machines where a whole part cannot run at once.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"regexp"
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
	try   func(v *verifier, ctx context.Context, times int, t *tally) error
	rows  func(t *tally) []row // of the table
}

// parts are run in this order.
var parts = [...]part{
	{"kills", 500, (*verifier).kills, killsRows},
	{"hostile", 40, (*verifier).hostile, hostileRows},
	{"sweeps", 0, (*verifier).sweeps, sweepsRows},
	{"calls", 200, (*verifier).calls, callsRows},
	{"caches", 0, (*verifier).caches, cachesRows},
	{"disks", 0, (*verifier).disks, disksRows},
	{"verdicts", 20, (*verifier).verdicts, verdictsRows},
	{"clock", 0, (*verifier).clock, clockRows},
	{"load", 0, (*verifier).load, loadRows},
	{"determinism", 20, (*verifier).determinism, determinismRows},
	{"soak", 0, (*verifier).soak, soakRows},
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
	guests int           // of the soak; 0: any number
	acts   int           // of each file of the soak
	add    bool
	only   *regexp.Regexp
	piece  string // of the sweeps, as for hostfault.EnvAll
}

func parse(args []string) (c choice, err error) {
	c.times, c.only, c.piece, c.acts = map[string]int{}, regexp.MustCompile(""), "1/1", soakActs
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
		case name == "guests" && given:
			if c.guests, err = strconv.Atoi(value); err != nil {
				return c, fmt.Errorf("%s: %w", arg, err)
			}
		case name == "acts" && given:
			if c.acts, err = strconv.Atoi(value); err != nil {
				return c, fmt.Errorf("%s: %w", arg, err)
			}
		case name == "only" && given:
			if c.only, err = regexp.Compile(value); err != nil {
				return c, err
			}
		case name == "piece" && given:
			c.piece = value
		case arg == "add":
			c.add = true
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
	v.only, v.piece, v.guests, v.acts = c.only, c.piece, c.guests, c.acts
	all, err := readTallies()
	if err != nil {
		return err
	}
	var rows []row
	ran := map[string]*tally{}
	for _, p := range parts {
		times, wanted := c.times[p.name]
		if !wanted {
			continue
		}
		began := time.Now()
		v.until = time.Time{}
		if c.limit > 0 {
			v.until = began.Add(c.limit)
		}
		if !c.add || all[p.name] == nil {
			all[p.name] = newTally()
		}
		if err := p.try(v, ctx, times, all[p.name]); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		rows = append(rows, p.table(all[p.name])...)
		ran[p.name] = all[p.name]
		fmt.Fprintf(os.Stderr, "verify: %s took %.0f s\n", p.name, time.Since(began).Seconds())
	}
	bad := printTable(os.Stdout, rows)
	if c.report != "" {
		// Another one may have run other parts meanwhile.
		if all, err = readTallies(); err != nil {
			return err
		}
		maps.Copy(all, ran)
		if err := errors.Join(writeTallies(all), writeReport(c.report, all)); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("not everything held")
	}
	return nil
}
