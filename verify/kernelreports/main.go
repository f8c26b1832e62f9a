//go:build verify

// Command kernelreports measures how well the reports of kernels are recognised. Each
// argument is a directory of console logs. A log that begins with "TITLE: " headers and an
// empty line, as the tests of syzkaller's pkg/report do, has a known report, whose title names
// the function to blame; one without a title, or without headers, has none.
//
// It prints in how many logs with a report one was found, in how many of those whose title
// names a function the same one was named, and how many logs without a report gave one. -v
// lists each miss. It exits 1 if a figure is below those that are promised.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"provium/internal/kernelreport"
)

// What is promised, in percent.
const (
	wantRecall   = 99
	wantFunction = 95
)

// sample is a log and what is known of it.
type sample struct {
	path    string
	titles  []string // the title, and others that are right, too
	damaged bool     // the log is cut or mixed up
	log     []byte
}

// figures are what was counted.
type figures struct {
	logs, found, named, right, clean, alarms, left int
}

func main() {
	dirs := os.Args[1:]
	verbose := len(dirs) > 0 && dirs[0] == "-v"
	if verbose {
		dirs = dirs[1:]
	}
	var f figures
	for _, dir := range dirs {
		paths, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(paths) == 0 {
			fmt.Fprintf(os.Stderr, "kernelreports: %s: no logs (%v)\n", dir, err)
			os.Exit(2)
		}
		for _, path := range paths {
			if info, err := os.Stat(path); err != nil || info.IsDir() {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				fmt.Fprintln(os.Stderr, "kernelreports:", err)
				os.Exit(2)
			}
			if miss := f.count(read(path, text)); miss != "" && verbose {
				fmt.Printf("%s: %s\n", path, miss)
			}
		}
	}
	fmt.Printf("recall: %d of %d logs with a report (%.1f %%)\n", f.found, f.logs, percent(f.found, f.logs))
	fmt.Printf("function: %d of %d reports that name one (%.1f %%)\n", f.right, f.named, percent(f.right, f.named))
	fmt.Printf("false alarms: %d on %d logs without a report\n", f.alarms, f.clean)
	fmt.Printf("left out: %d logs that are damaged, or whose report is of another program\n", f.left)
	if percent(f.found, f.logs) < wantRecall || percent(f.right, f.named) < wantFunction || f.alarms > 0 {
		os.Exit(1)
	}
}

func percent(n, of int) float64 {
	if of == 0 {
		return 100
	}
	return 100 * float64(n) / float64(of)
}

var header = regexp.MustCompile(`^[A-Z_]+: `)

// read splits a file into headers and log.
func read(path string, text []byte) sample {
	s := sample{path: path, log: text}
	for bytes.HasPrefix(text, []byte("#")) {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	head, rest, ok := bytes.Cut(text, []byte("\n\n"))
	if bytes.HasPrefix(text, []byte("\n")) {
		head, rest, ok = nil, text[1:], true
	}
	if !ok || len(head) > 0 && !header.Match(head) {
		return s
	}
	for line := range strings.Lines(string(head)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "TITLE", "ALT":
			s.titles = append(s.titles, value)
		case "CORRUPTED", "SUPPRESSED":
			s.damaged = s.damaged || value == "Y"
		}
	}
	s.log, _, _ = bytes.Cut(rest, []byte("\n\nREPORT:\n"))
	return s
}

// foreign are titles of reports that no kernel has made.
var foreign = regexp.MustCompile(`^(SYZ|trusty|go runtime|panic:|fatal error|WARNING: foo|WARNING: ath10k)`)

// count counts a sample, and describes what was missed.
func (f *figures) count(s sample) (miss string) {
	d := kernelreport.NewDetector(kernelreport.Rules{})
	findings := append(d.Feed(s.log), d.Flush()...)
	findings = slices.DeleteFunc(findings, func(f kernelreport.Finding) bool { return f.Kind.IsNote() })
	if len(s.titles) == 0 {
		f.clean++
		if len(findings) == 0 {
			return ""
		}
		f.alarms++
		return fmt.Sprintf("false alarm: %s", findings[0].Title)
	}
	if s.damaged || foreign.MatchString(s.titles[0]) {
		f.left++
		return ""
	}
	f.logs++
	functions := functionsOf(s.titles)
	if len(functions) > 0 {
		f.named++
	}
	if len(findings) == 0 {
		return fmt.Sprintf("not found: %s", s.titles[0])
	}
	f.found++
	if len(functions) == 0 {
		return ""
	}
	if slices.Contains(s.titles, findings[0].Title) || slices.Contains(functions, normal(findings[0].Function)) {
		f.right++
		return ""
	}
	return fmt.Sprintf("function: want %s, got %s", s.titles[0], findings[0].Title)
}

var function = regexp.MustCompile(`^.* in ([A-Za-z0-9_:<> ]+?)(?:/\w+| / .*)?$`)

// functionsOf returns the functions that titles name.
func functionsOf(titles []string) (list []string) {
	for _, t := range titles {
		if m := function.FindStringSubmatch(t); m != nil && m[1] != "corrupted" {
			list = append(list, normal(m[1]))
		}
	}
	return list
}

var wrapper = regexp.MustCompile(`^(_*(x64|ia32|arm64|se|do)_|compat_)*_*(k?sys|SyS|SYSC)_`)

// normal returns one name for all functions around a system call.
func normal(name string) string {
	return wrapper.ReplaceAllString(strings.NewReplacer("<", "", ">", "").Replace(name), "")
}
