package export

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestTAPDiagnosticsAreYAML has a foreign parser read the blocks, which have every message whole.
func TestTAPDiagnosticsAreYAML(t *testing.T) {
	var b bytes.Buffer
	r := results(t)
	if err := TAP(&b, r); err != nil {
		t.Fatal(err)
	}
	var messages []string
	for _, part := range strings.Split(b.String(), "      ---\n")[1:] {
		block, _, _ := strings.Cut(part, "\n      ...\n")
		var d struct{ Severity, Kind, At, Message string }
		if err := yaml.Unmarshal([]byte(block), &d); err != nil || d.Severity != "fail" || d.Kind == "" {
			t.Errorf("%v, %+v\n%s", err, d, block)
		}
		messages = append(messages, strings.TrimSuffix(d.Message, "\n"))
	}
	failed := 0
	for _, f := range r.Files {
		for _, test := range f.Tests {
			if test.Status != "failed" {
				continue
			}
			failed++
			found := false
			for _, m := range messages {
				found = found || m == strings.TrimSuffix(test.Message, "\n")
			}
			if !found {
				t.Errorf("no block has the message %q", test.Message)
			}
		}
	}
	if failed != 7 {
		t.Error(failed)
	}
}

// The rules of the kernel's tools/testing/kunit/kunit_parser.py.
var (
	ktapStart  = regexp.MustCompile(`^\s*KTAP version ([0-9]+)$`)
	ktapHead   = regexp.MustCompile(`^\s*# Subtest: (.*)$`)
	ktapPlan   = regexp.MustCompile(`^\s*1\.\.([0-9]+)`)
	ktapResult = regexp.MustCompile(`^\s*(ok|not ok) ([0-9]+) ?(- )?([^#]*)( # .*)?$`)
	ktapSkip   = regexp.MustCompile(`^\s*(ok|not ok) ([0-9]+) ?(- )?(.*) # SKIP ?(.*)$`)
)

// ktapParser reads a document as the kernel's parser does.
type ktapParser struct {
	lines                   []string
	passed, failed, skipped int
	logs                    map[string][]string // diagnostic lines, by test
	errors                  []string
}

func (p *ktapParser) match(re *regexp.Regexp) []string {
	if len(p.lines) == 0 {
		return nil
	}
	m := re.FindStringSubmatch(p.lines[0])
	if m != nil {
		p.lines = p.lines[1:]
	}
	return m
}

// diagnostics returns the lines up to the next one that means something.
func (p *ktapParser) diagnostics() (log []string) {
	for len(p.lines) > 0 {
		for _, re := range []*regexp.Regexp{ktapResult, ktapHead, ktapStart, ktapPlan} {
			if re.MatchString(p.lines[0]) {
				return log
			}
		}
		log, p.lines = append(log, p.lines[0]), p.lines[1:]
	}
	return log
}

// test reads a test with that number, and what is in it.
func (p *ktapParser) test(number int, log []string) {
	log = append(log, p.diagnostics()...)
	isParent, header := p.match(ktapStart) != nil, ""
	if isParent {
		log = append(log, p.diagnostics()...)
	}
	if m := p.match(ktapHead); m != nil {
		isParent, header = true, m[1]
	}
	if isParent {
		m := p.match(ktapPlan)
		if m == nil {
			p.errors = append(p.errors, fmt.Sprintf("%s: no plan, but %.1q", header, p.lines))
			return
		}
		n, _ := strconv.Atoi(m[1])
		for i := range n {
			p.test(i+1, p.diagnostics())
		}
		log = append(log, p.diagnostics()...)
	}
	line := p.lines
	m := p.match(ktapResult)
	if m == nil || m[2] != strconv.Itoa(number) || header != "" && strings.TrimSpace(m[4]) != header {
		p.errors = append(p.errors, fmt.Sprintf("test %d (%s): %.1q", number, header, line))
		return
	}
	p.logs[m[4]] = log
	switch {
	case isParent:
	case ktapSkip.MatchString(line[0]):
		p.skipped++
	case m[1] == "ok":
		p.passed++
	default:
		p.failed++
	}
}

// TestKTAPIsRead reads our KTAP by the rules of the kernel's own parser.
func TestKTAPIsRead(t *testing.T) {
	var b bytes.Buffer
	if err := KTAP(&b, results(t)); err != nil {
		t.Fatal(err)
	}
	p := &ktapParser{lines: strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n"), logs: map[string][]string{}}
	if p.match(ktapStart) == nil {
		t.Fatal("no version line")
	}
	plan := p.match(ktapPlan)
	n, err := strconv.Atoi(plan[1])
	if err != nil || n != 8 {
		t.Fatal(plan)
	}
	for i := range n {
		p.test(i+1, p.diagnostics())
	}
	if len(p.errors) > 0 || len(p.lines) > 0 {
		t.Errorf("%q, left %q", p.errors, p.lines)
	}
	if p.passed != 3 || p.failed != 11 || p.skipped != 1 {
		t.Errorf("%d passed, %d failed, %d skipped", p.passed, p.failed, p.skipped)
	}
	for test, first := range map[string]string{"command": "  # tests/why.test.lua:7: command failed",
		"flaky": "  # flaky: passed at run 3", "limit": "  # run 1 failed: tests/why.test.lua:7: command failed"} {
		if log := p.logs[test]; len(log) == 0 || !strings.HasPrefix(log[0], first) {
			t.Errorf("%s has the diagnostics %q", test, log)
		}
	}
}
