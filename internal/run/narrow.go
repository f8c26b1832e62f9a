package run

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/choose"
	"provium/internal/config"
	"provium/internal/event"
	"provium/internal/luascan"
)

// shownTests is what is known of a file's tests before it runs.
type shownTests struct {
	tests []choose.Test
	// closed says that there are no others, exact that each is one test with a known name.
	closed, exact bool
}

// scanner reads the tests of files, and remembers which modules register some.
type scanner struct {
	cfg     *config.Config
	modules map[string]bool // by path: it, or one that it requires, registers tests
}

func newScanner(cfg *config.Config) *scanner { return &scanner{cfg: cfg, modules: map[string]bool{}} }

// scan reads the tests of a file.
func (s *scanner) scan(f *foundFile) *shownTests {
	if f.shown != nil {
		return f.shown
	}
	text := source(f.abs)
	found := luascan.Tests(text)
	shown := &shownTests{closed: text != nil && found.Closed, exact: true}
	for _, module := range found.Modules {
		shown.closed = shown.closed && !s.registers(module)
	}
	names := map[string]bool{}
	for _, call := range found.Tests {
		t := choose.Test{Path: f.path, Open: !call.MetaKnown, Meta: call.Meta}
		if call.Each {
			t.Group = call.Name
		} else {
			t.Name = call.Name
		}
		if !found.InFunctions {
			t.Lines = []choose.Lines{{First: call.First, Last: call.Last}}
		}
		shown.tests = append(shown.tests, t)
		shown.exact = shown.exact && call.Sure && call.MetaKnown && t.Name != "" && !names[t.Name]
		names[t.Name] = true
	}
	shown.exact = shown.exact && shown.closed
	f.shown = shown
	return shown
}

// registers reports whether a module registers tests, itself or in modules that it requires.
// One that is below no root does not.
func (s *scanner) registers(module string) bool {
	for _, root := range s.cfg.Roots {
		path := filepath.Join(root, filepath.FromSlash(strings.ReplaceAll(module, ".", "/"))) + ".lua"
		if known, ok := s.modules[path]; ok {
			return known
		}
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		s.modules[path] = false // modules may require each other
		s.modules[path] = luascan.Registers(text) ||
			slices.ContainsFunc(luascan.Tests(text).Modules, s.registers)
		return s.modules[path]
	}
	return false
}

// collect runs the chunks of those files whose tests the source does not show, as far as that
// matters to filter and picks: tests that are computed may be wanted, and no other one is; or
// none is, and those that are left out are to be listed.
func (s *scanner) collect(files []*foundFile, sel Selection) error {
	var hidden []*foundFile
	for _, f := range files {
		shown := s.scan(f)
		certain := slices.ContainsFunc(shown.tests, func(t choose.Test) bool {
			return t.Name != "" && !t.Open && t.Lines != nil && skipReason(t, f.picks, sel.Tests) == ""
		})
		if !shown.exact && !certain {
			hidden = append(hidden, f)
		}
	}
	return s.collectThese(hidden, sel)
}

// collectThese runs the chunks of files to see their tests.
func (s *scanner) collectThese(files []*foundFile, sel Selection) error {
	if sel.collect == nil || len(files) == 0 {
		return nil
	}
	found, err := sel.collect(files)
	if err != nil {
		return err
	}
	for i, tests := range found {
		if tests != nil {
			files[i].shown = &shownTests{tests: tests, closed: true, exact: true}
		}
	}
	return nil
}

// collectIdle runs the chunks of those files of which no test is to run, where the source does
// not show the names of all.
func (s *scanner) collectIdle(files []*foundFile, sel Selection) error {
	var idle []*foundFile
	for _, f := range files {
		shown := s.scan(f)
		if shown.closed && !shown.exact && !slices.ContainsFunc(shown.tests, func(t choose.Test) bool {
			return skipReason(t, f.picks, sel.Tests) == ""
		}) {
			idle = append(idle, f)
		}
	}
	return s.collectThese(idle, sel)
}

// may reports whether a test of the file may be wanted by take, as far as is known.
func (t *shownTests) may(take func(choose.Test) bool) bool {
	return !t.closed || slices.ContainsFunc(t.tests, take)
}

// narrow refuses a selection of tests that matches none.
func (s *scanner) narrow(files []*foundFile, sel Selection) error {
	if sel.asksForTests() || slices.ContainsFunc(files, func(f *foundFile) bool { return f.picks.Some() }) {
		if err := s.collect(files, sel); err != nil {
			return err
		}
	}
	for _, f := range files {
		if !f.picks.Some() {
			continue
		}
		for _, line := range f.picks.Lines {
			if err := s.scan(f).checkPick(f.path, choose.Picks{Lines: []int{line}}); err != nil && !sel.AllowEmpty {
				return err
			}
		}
		for _, name := range f.picks.Names {
			if err := s.scan(f).checkPick(f.path, choose.Picks{Names: []string{name}}); err != nil && !sel.AllowEmpty {
				return err
			}
		}
	}
	if !sel.asksForTests() {
		return nil
	}
	for _, f := range files {
		s.scan(f)
	}
	if sel.AllowEmpty || len(files) == 0 {
		return nil
	}
	return s.check(files, sel)
}

// asksForTests reports whether tests are asked for by name or tag.
func (s Selection) asksForTests() bool {
	return len(s.Tests.Names) > 0 || s.Tests.Keyword != "" || len(s.Tests.Tags) > 0
}

// checkPick returns an error if no test of the file can be the one that is picked.
func (t *shownTests) checkPick(path string, pick choose.Picks) error {
	if t.may(func(t choose.Test) bool { skip, _ := pick.Skip(t); return !skip }) {
		return nil
	}
	if len(pick.Names) > 0 {
		return fmt.Errorf("`%s` has no test `%s`%s", path, pick.Names[0], proposal(choose.Nearest(pick.Names[0],
			t.names())))
	}
	return fmt.Errorf("`%s` has no test at line %d%s", path, pick.Lines[0], t.around(pick.Lines[0]))
}

// around names the tests before and behind a line.
func (t *shownTests) around(line int) string {
	var before, behind *choose.Test
	for i := range t.tests {
		at := t.tests[i].Lines
		switch {
		case at == nil:
		case at[0].Last < line:
			before = &t.tests[i]
		case behind == nil:
			behind = &t.tests[i]
		}
	}
	var near []string
	for _, test := range []*choose.Test{before, behind} {
		if test != nil {
			near = append(near, fmt.Sprintf("`%s` at lines %d to %d", nameOf(*test), test.Lines[0].First,
				test.Lines[0].Last))
		}
	}
	if len(near) == 0 {
		return "; it has none"
	}
	return "; the nearest: " + strings.Join(near, ", ")
}

// nameOf returns what a test is called in messages.
func nameOf(t choose.Test) string {
	switch {
	case t.Name != "":
		return t.Name
	case t.Group != "":
		return t.Group
	}
	return unnamed
}

// unnamed stands for a name that is known only when the file runs.
const unnamed = "?"

func (t *shownTests) names() []string {
	var out []string
	for _, test := range t.tests {
		if name := nameOf(test); name != unnamed {
			out = append(out, name)
		}
	}
	return out
}

// proposal is the end of a message that proposes names.
func proposal(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; did you mean `" + strings.Join(names, "`, `") + "`?"
}

// check returns an error if no test of the files can be what is asked for.
func (s *scanner) check(files []*foundFile, sel Selection) error {
	matched := func(f choose.Filter) bool {
		f.IncludeSlow = true
		return slices.ContainsFunc(files, func(file *foundFile) bool {
			return file.shown.may(func(t choose.Test) bool { skip, _ := f.Skip(t); return !skip })
		})
	}
	f := sel.Tests
	var names []string
	for _, file := range files {
		names = append(names, file.shown.names()...)
	}
	switch {
	case len(f.Names) > 0 && !matched(choose.Filter{Names: f.Names}):
		return fmt.Errorf("no test matches --test %s%s", strings.Join(f.Names, ", --test "),
			proposal(choose.Nearest(f.Names[0], names)))
	case f.Keyword != "" && !matched(choose.Filter{Keyword: f.Keyword}):
		return fmt.Errorf("no test matches -k `%s`%s", f.Keyword, proposal(choose.Nearest(f.Keyword, names)))
	case (len(f.Names) > 0 || f.Keyword != "") && !matched(choose.Filter{Names: f.Names, Keyword: f.Keyword}):
		return fmt.Errorf("no test matches both --test %s and -k `%s`", strings.Join(f.Names, ", --test "), f.Keyword)
	case len(f.Tags) > 0 && !matched(choose.Filter{Tags: f.Tags}):
		return s.checkTags(files, f.Tags)
	}
	return nil
}

// checkTags returns an error if no test of the project has one of the tags.
func (s *scanner) checkTags(files []*foundFile, tags []string) error {
	rest, err := discover(s.cfg, s.cfg.Dir, nil, testSuffix)
	if err != nil {
		return nil // the files that are to run were found
	}
	for _, abs := range rest {
		files = append(files, &foundFile{path: projectPath(s.cfg.Dir, abs), abs: abs})
	}
	var known []string
	for _, f := range files {
		shown := s.scan(f)
		filter := choose.Filter{Tags: tags, IncludeSlow: true}
		if shown.may(func(t choose.Test) bool { skip, _ := filter.Skip(t); return !skip }) {
			return nil
		}
		for _, t := range shown.tests {
			known = append(known, t.Tags()...)
		}
	}
	text := fmt.Sprintf("no test has the tag `%s`", strings.Join(tags, "` or `"))
	if near := choose.Nearest(tags[0], known); len(near) > 0 {
		return fmt.Errorf("%s%s", text, proposal(near))
	}
	return fmt.Errorf("%s", text)
}

// isUnwanted reports whether no test of the file can have a name that is asked for.
func (f *foundFile) isUnwanted(filter choose.Filter) bool {
	if f.shown == nil || len(filter.Names) == 0 && filter.Keyword == "" {
		return false
	}
	byName := choose.Filter{Names: filter.Names, Keyword: filter.Keyword, IncludeSlow: true}
	return !f.shown.may(func(t choose.Test) bool { skip, _ := byName.Skip(t); return !skip })
}

// candidate describes a file. One of which every test is left out has them in Skipped.
func (s *scanner) candidate(f *foundFile, filter choose.Filter) Candidate {
	c := describe(f.path, f.abs)
	c.Picks = f.picks
	shown := s.scan(f)
	if shown.exact {
		c.Picks = c.Picks.Of(shown.names())
	}
	if !shown.closed || len(shown.tests) == 0 {
		return c
	}
	skipped := []SkippedTest{}
	for _, t := range shown.tests {
		reason := skipReason(t, c.Picks, filter)
		if reason == "" {
			return c
		}
		if name := nameOf(t); name != unnamed {
			skipped = append(skipped, SkippedTest{Name: name, Reason: reason, Meta: literalMeta(t.Meta)})
		}
	}
	c.Skipped = skipped
	return c
}

// skipReason returns why a test does not run, "" if it may.
func skipReason(t choose.Test, picks choose.Picks, filter choose.Filter) string {
	switch v := t.Meta["skip"].(type) {
	case string:
		if v != "" {
			return "skipped: " + v
		}
		return "skipped (meta.skip)"
	case bool:
		if v {
			return "skipped (meta.skip)"
		}
	case int64:
		if v != 0 {
			return "skipped (meta.skip)"
		}
	}
	if skip, reason := picks.Skip(t); skip {
		return reason
	}
	_, reason := filter.Skip(t)
	return reason
}

// literalMeta returns the metadata for events, as far as it is literal.
func literalMeta(values map[string]any) event.Meta {
	m := event.Meta{}
	for key, v := range values {
		if _, unknown := v.(choose.Unknown); !unknown {
			m[key] = v
		}
	}
	return m
}
