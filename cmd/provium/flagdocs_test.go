package main

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// docSection returns the part of docs/cli.md below a heading, up to the next of its level.
func docSection(t *testing.T, text, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("docs/cli.md has no `%s`", heading)
	}
	level, _, _ := strings.Cut(heading, " ")
	section, _, _ := strings.Cut(rest, "\n"+level+" ")
	return section
}

// firstCells returns the first cells of the rows of tables.
func firstCells(section string) []string {
	var cells []string
	for line := range strings.Lines(section) {
		cell, ok := strings.CutPrefix(line, "| ")
		if !ok {
			continue
		}
		cell = strings.ReplaceAll(cell, `\|`, "\x00") // is no border
		cell, _, _ = strings.Cut(cell, " | ")
		cells = append(cells, strings.ReplaceAll(cell, "\x00", "|"))
	}
	return cells
}

var (
	longFlag  = regexp.MustCompile(`--[a-z][a-z-]*`)
	shortFlag = regexp.MustCompile("(?:^|[ `,])(-[a-zA-Z])\\b")
)

func found(re *regexp.Regexp, texts ...string) map[string]bool {
	all := map[string]bool{}
	for _, text := range texts {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			all[m[len(m)-1]] = true
		}
	}
	return all
}

// flagsOf are the flags of a command, as they are typed.
func flagsOf(cmd *cobra.Command) map[string]bool {
	all := map[string]bool{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		all["--"+f.Name] = true
		if f.Shorthand != "" {
			all["-"+f.Shorthand] = true
		}
	})
	return all
}

// compare reports what only one of two sets has.
func compare(t *testing.T, one string, a map[string]bool, other string, b map[string]bool) {
	t.Helper()
	for _, x := range slices.Sorted(maps.Keys(a)) {
		if !b[x] {
			t.Errorf("%s has `%s`, %s has not", one, x, other)
		}
	}
	for _, x := range slices.Sorted(maps.Keys(b)) {
		if !a[x] {
			t.Errorf("%s has `%s`, %s has not", other, x, one)
		}
	}
}

// TestFlagsAreDocumented compares docs/cli.md, --help and the commands.
func TestFlagsAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	docs := string(raw)
	c := newCLI(t, nil)
	root := c.rootCommand()

	run := flagsOf(root)
	_, help, _ := c.run("--help")
	shown := found(regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`), help)
	maps.Copy(shown, found(regexp.MustCompile(`(?m)^ +(-\w), --`), help))
	compare(t, "`provium --help`", shown, "the program", run)

	general := map[string]bool{"--help": true, "-h": true, "--version": true}
	rows := firstCells(docSection(t, docs, "## Flags of a run"))
	listed := found(longFlag, rows...)
	maps.Copy(listed, found(shortFlag, rows...))
	maps.DeleteFunc(run, func(name string, _ bool) bool { return general[name] })
	compare(t, "the table of docs/cli.md", listed, "the program", run)

	commands := strings.Join(firstCells(docSection(t, docs, "## Commands")), "\n")
	everywhere := found(longFlag, docs)
	known := map[string]bool{"--from": true, "--from-socket": true} // of provium-coverage
	maps.Copy(known, run)
	maps.Copy(known, general)
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if !sub.IsAvailableCommand() {
				continue
			}
			word := regexp.MustCompile(`(?:^|[^\w-])` + regexp.QuoteMeta(sub.Name()) + `(?:$|[^\w-])`)
			if !word.MatchString(commands) {
				t.Errorf("docs/cli.md does not list `%s`", sub.CommandPath())
			}
			for name := range flagsOf(sub) {
				known[name] = true
				if strings.HasPrefix(name, "--") && !everywhere[name] && !general[name] {
					t.Errorf("docs/cli.md does not have `%s` of `%s`", name, sub.CommandPath())
				}
			}
			visit(sub)
		}
	}
	visit(root)
	for name := range everywhere {
		if !known[name] {
			t.Errorf("docs/cli.md has `%s`, no command has", name)
		}
	}
}
