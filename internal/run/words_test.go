package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/plainwords"
	"provium/internal/report"
)

// TestMessagesAreForPeople has runs fail, or go on with a warning, each in another way. The rest of the tests look at
// what runs say, too: localRun.run does.
func TestMessagesAreForPeople(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	empty, words, cut := file("empty", ""), file("words", "nothing\n"), file("cut", `{"failed": [{"path`)
	for name, set := range map[string]func(o *Options){
		"no place for temporary files": func(o *Options) { o.TempBase = filepath.Join(dir, "none") },
		"a file is in their place":     func(o *Options) { o.TempBase = words },
		"no program":                   func(o *Options) { o.Self = filepath.Join(dir, "none") },
		"a program without a right":    func(o *Options) { o.Self = words },
		"a rerun state that is cut":    func(o *Options) { o.Select.RerunFailed, o.Select.RerunState = true, cut },
		"an empty rerun state":         func(o *Options) { o.Select.RerunFailed, o.Select.RerunState = true, empty },
		"words for a rerun state":      func(o *Options) { o.Select.RerunFailed, o.Select.RerunState = true, words },
		"no place for a rerun state":   func(o *Options) { o.RerunState = filepath.Join(words, "x") },
		"a history that is cut":        func(o *Options) { o.History = cut },
		"words for a history":          func(o *Options) { o.History = words },
		"no place for a history":       func(o *Options) { o.History = filepath.Join(words, "x") },
		"a selection that is missing":  func(o *Options) { o.Select.Paths = []string{filepath.Join(dir, "none")} },
		"a selection that is no test":  func(o *Options) { o.Select.Paths = []string{words} },
		"a time that is missing":       func(o *Options) { o.Select.Since = filepath.Join(dir, "none") },
		"events to a full disk":        func(o *Options) { o.Events.File = "/dev/full" },
		"a page on a full disk":        func(o *Options) { o.Exports.Page = "/dev/full" },
		"JUnit on a full disk":         func(o *Options) { o.Exports.JUnit = "/dev/full" },
		"no place for evidence":        func(o *Options) { o.Kept.Dir = filepath.Join(words, "x") },
		"a limit for the file":         func(o *Options) { o.FileTimeout = time.Nanosecond },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": passes, "b": fails, "c": guest,
				"d": "error('at file scope')", "e": "(", "f": `while true do end`})
			temp := l.o.TempBase
			set(&l.o)
			if name != "a limit for the file" {
				l.o.Select.Paths = append(l.o.Select.Paths[:0:0], l.o.Select.Paths...)
				must(t, os.Remove(filepath.Join(l.o.Config.Dir, "f"+testSuffix)))
			}
			_, err := l.run()
			t.Log(err, l.stderr)
			if err == nil && strings.TrimSpace(l.stderr) == "" {
				t.Error("nothing is said")
			}
			must(t, os.RemoveAll(temp))
		})
	}
}

// TestWordsOfLostRunners has runners end in every way, and looks at the words of the report.
func TestWordsOfLostRunners(t *testing.T) {
	for _, behaviour := range []string{"chunk", "crash", "forgets", "exit"} {
		r := newFakeRun(t, behaviour)
		result := describeResult(r.run(nil, nil, nil))
		crashed := strings.Contains(result, string(report.FileCrashed))
		if found := plainwords.Jargon(result); len(found) > 0 || !crashed && behaviour != "chunk" {
			t.Errorf("%s: %s, %q", behaviour, result, found)
		}
	}
}
