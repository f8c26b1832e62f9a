package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// asProgram is the variable with which the test binary is the program.
const asProgram = "PROVIUM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(start())
	}
	os.Exit(m.Run())
}

// shellProject makes a project, and a directory with the program for PATH.
func shellProject(t *testing.T) (dir, bin string) {
	t.Helper()
	p := newCLI(t, map[string]string{
		"provium.toml": autoConfig + "[profiles.mine]\n",
		"tests/net.test.lua": `test("the link: comes up", {tags = {"net", "smoke"}}, function(t) end)
test("it's down", {tags = "slow one"}, function(t) end)
test("computed" .. 1, function(t) end)`,
		"tests/setups/web.fixture.lua": "",
		"other/x.txt":                  "",
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin = t.TempDir()
	script := "#!/bin/sh\n" + asProgram + "=1 exec '" + self + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "provium"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return p.dir, bin
}

// shellRun runs a script of a shell in a directory.
func shellRun(t *testing.T, dir, bin, script string, command ...string) string {
	t.Helper()
	path, err := exec.LookPath(command[0])
	if err != nil {
		t.Skipf("no %s", command[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append(command[1:], script)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "HOME=" + dir, "TERM=dumb"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s: %v\n%s%s", command[0], err, out, stderr.String())
	}
	return string(out)
}

// Bash completes without the package bash-completion. The last word of each line is completed
// as the key Tab does: the shell splits it at = and :.
func TestBashCompletion(t *testing.T) {
	dir, bin := shellProject(t)
	for _, c := range []struct{ words, want string }{
		{"'che'", "check"},
		{"exec --prof", "--profile"},
		{"exec --profile ''", "host mine"},
		{"exec --profile = m", "mine"},
		{"shell ''", "host mine"},
		{"--tag ''", "net one slow smoke"}, // "slow one" is one tag,
		{"list --no-tag sl", "slow\\ one"},
		{"--vmm ''", "local qemu"},
		{"fixture build ''", "setups/web"},
		{"repl --fixture s", "setups/web"},
		{"--test the", "the\\ link:\\ comes\\ up"},
		{"tests/net.test.lua :: th", "the\\ link:\\ comes\\ up"},
		{"help api clock : s", "set set_ns sleep sync"},
		{"lsp-setup t", "tests"},
		{"completion ''", "bash fish zsh"},
		{"tests/n", "(default)"},
	} {
		script := `
source <(provium completion bash)
declare -F _init_completion _get_comp_words_by_ref >/dev/null && echo "bash-completion is there"
compopt() { return 0; }
COMP_WORDS=(provium ` + c.words + `); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_TYPE=9; COMP_KEY=9
COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}
COMPREPLY=()
__start_provium
printf '%s\n' "${COMPREPLY[@]}"`
		got := strings.Fields(strings.ReplaceAll(shellRun(t, dir, bin, script, "bash", "--norc", "--noprofile", "-c"),
			"\\ ", "\x00"))
		slices.Sort(got)
		text := strings.ReplaceAll(strings.Join(got, " "), "\x00", "\\ ")
		if want := strings.Replace(c.want, "(default)", "", 1); text != want {
			t.Errorf("%s: %q, want %q", c.words, text, want)
		}
	}
}

func TestZshCompletion(t *testing.T) {
	dir, bin := shellProject(t)
	out := shellRun(t, dir, bin, `autoload -U compinit && compinit -u -D && source <(provium completion zsh) &&
		whence -w _provium && print ${_comps[provium]}`, "zsh", "-f", "-c")
	if !strings.Contains(out, "_provium: function") || !strings.Contains(out, "_provium\n") {
		t.Error(out)
	}
}

func TestFishCompletion(t *testing.T) {
	dir, bin := shellProject(t)
	for words, want := range map[string]string{
		"provium che": "check", "provium exec --profile m": "mine", "provium --tag n": "net",
		"provium fixture build s": "setups/web",
	} {
		out := shellRun(t, dir, bin, "provium completion fish | source; complete -C '"+words+"'", "fish", "--no-config",
			"-c")
		if first, _, _ := strings.Cut(strings.SplitN(out, "\n", 2)[0], "\t"); first != want {
			t.Errorf("%s: %q, want %s", words, out, want)
		}
	}
}

func TestManPages(t *testing.T) {
	p := newCLI(t, nil)
	code, stdout, stderr := p.run("man", "pages/man1")
	if code != 0 || !strings.HasSuffix(stdout, " pages to pages/man1\n") || stderr != "" {
		t.Fatalf("%d, %s%s", code, stdout, stderr)
	}
	exec := p.read("pages/man1/provium-exec.1")
	for _, want := range []string{
		".TH \"PROVIUM-EXEC\" \"1\" \"\" \"Provium " + version + "\"", "\\fB--config\\fP=PATH\n", "\\fB--cold\\fP\n",
		"\\fB-h\\fP, \\fB--help\\fP\n", "provium exec -- uname -a\n",
	} {
		if !strings.Contains(exec, want) {
			t.Errorf("no %q in\n%s", want, exec)
		}
	}
	for _, c := range p.rootCommand().Commands() {
		if c.IsAvailableCommand() {
			p.read("pages/man1/provium-" + c.Name() + ".1")
		}
	}
	if code, _, stderr := p.run("man"); code != 2 || !strings.Contains(stderr, "expected one directory") {
		t.Errorf("%d, %s", code, stderr)
	}
	p.write("file", "")
	if code, _, stderr := p.run("man", "file"); code != 2 || !strings.Contains(stderr, "man: ") {
		t.Errorf("%d, %s", code, stderr)
	}
}

// A word that is far from all others is not answered with one of them.
func TestNoFarProposals(t *testing.T) {
	p := newCLI(t, map[string]string{"provium.toml": autoConfig})
	for _, line := range []string{"completion tcsh", "test"} {
		if code, _, stderr := p.run(strings.Fields(line)...); code == 0 || strings.Contains(stderr, "did you mean") {
			t.Errorf("%s: %d, %s", line, code, stderr)
		}
	}
	for wrong, want := range map[string]string{
		"lsit": "list", "imgae": "image", "exce": "exec", "hots": "", "a": "", "docter": "doctor",
	} {
		got := didYouMean(wrong, []string{"list", "image", "exec", "doctor"})
		if want != "" {
			want = "; did you mean `" + want + "`?"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", wrong, got, want)
		}
	}
}
