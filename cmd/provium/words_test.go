package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/event"
)

// TestMessagesAreForPeople has commands meet damaged, missing and unreadable things. Every other test of a command
// line looks at the words of what it says, too: cli.run does.
func TestMessagesAreForPeople(t *testing.T) {
	events := string(savedRun(t, event.Msgpack, "a", ""))
	lines := string(savedRun(t, event.JSONL, "a", ""))
	files := map[string]string{"provium.toml": autoConfig, "tests/a.test.lua": `test("a", function() end)`,
		"empty": "", "words": strings.Repeat("nothing ", 1000), "cut": events[:len(events)-30],
		"cut-start": events[:3], "cut.jsonl": lines[:len(lines)/2], "brace": "{",
		"nonsense.jsonl": "{nonsense}\n", "list": "[1, 2",
		"toml/cut.toml": "[provium", "toml/kind.toml": "[provium]\nroots = 3\n",
		"toml/table.toml": "provium = 3\n", "toml/time.toml": "[provium]\ntimeout = \"soon\"\n",
		"toml/twice.toml":  "[provium]\n[provium]\n",
		"toml/binary.toml": "\x00\x01\x02\xff", "layout/index.json": `{"manifests": [`, "layout/oci-layout": "x",
		"folder/record.json": `{"project": 3}`, "bad/x.test.lua": "test(", "bin.test.lua": "\x1bLua\x00\xff"}
	for _, args := range []string{
		"report empty", "report words", "report cut", "report cut-start", "report cut.jsonl", "report brace",
		"report nonsense.jsonl",
		"report tests", "report --json cut", "report --junit / cut", "report --junit words/x cut",
		"report --report /dev/full cut", "coverage empty", "coverage words", "coverage cut-start",
		"coverage tests", "coverage cut --format html", "report --save-durations / cut", "--durations-file words",
		"--durations-file list", "--durations-file none", "--config toml/cut.toml", "--config toml/kind.toml",
		"--config toml/table.toml", "--config toml/time.toml", "--config toml/twice.toml",
		"--config toml/binary.toml", "--config tests", "--config none", "--config /dev/null/x", "replay none",
		"replay tests", "replay folder", "replay words", "list none", "list words", "list bad --tests",
		"check bad", "check bin.test.lua", "check none", "check words", "fixture build none",
		"fixture build tests/a.test.lua", "cache ls oci:layout", "cache ls oci:words", "cache ls oci:none",
		"cache ls oci:empty", "cache pull oci:layout", "cache push oci:words", "cache ls a..b",
		"cache ls host:port/x", "image show --profile none", "--kernel none image show", "--qemu none",
		"--qemu words", "--qemu tests", "man words", "man words/x", "init words", "init words/x/y",
		"lsp-setup --config none", "image overlay words/x", "image overlay tests", "--timeout soon",
		"--seed -1", "--jobs 1e3", "--repeat 99999999999999999999", "--mem 1e400", "--shard 1/0",
		"--cpu-overcommit x", "--test /[/", "-k ((", "--tag-meta x", "attach none", "attach", "prepare none",
		"boots list x", "exec", "exec --profile none true", "verify-determinism none", "completion x",
	} {
		t.Run(args, func(t *testing.T) {
			c := newCLI(t, files)
			c.environ = func() []string { return nil }
			code, _, stderr := c.run(strings.Fields(args)...)
			t.Log(code, stderr)
			if code != 0 && strings.TrimSpace(stderr) == "" {
				t.Errorf("code %d, and nothing is said", code)
			}
		})
	}
	for _, cache := range []string{"boots", "fixtures", "images", ""} {
		c := newCLI(t, files)
		path := filepath.Join(c.vars["HOME"], ".cache", "provium", cache)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("a file"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range []string{"boots list", "boots clean", "fixture list", "fixture clean", "image list",
			"image clean", "cache push oci:shared", "cache pull oci:shared"} {
			c.run(strings.Fields(args)...)
		}
	}
}
