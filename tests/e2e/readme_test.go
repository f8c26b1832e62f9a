package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fence is a block of code in a page.
type fence struct{ language, text string }

// fences returns the blocks of a section of a page.
func fences(t *testing.T, path, section string) (all []fence) {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", path, section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	parts := strings.Split(text, "```")
	for i := 1; i < len(parts); i += 2 {
		language, body, _ := strings.Cut(parts[i], "\n")
		all = append(all, fence{language, body})
	}
	return all
}

// TestReadme types the commands of the README's first example into a shell, in an empty
// directory, and looks for what the README shows of their output.
func TestReadme(t *testing.T) {
	t.Parallel()
	p := newProject(t, "")
	if err := os.Remove(filepath.Join(p.dir, "provium.toml")); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(p.bin, filepath.Join(bin, "provium")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	output, ran := "", 0
	for _, f := range fences(t, "../../README.md", "A first test") {
		switch f.language {
		case "sh":
			cmd := exec.CommandContext(ctx, "sh", "-e", "-c", f.text)
			cmd.Dir = p.dir
			cmd.Env = append(p.env, "PATH="+bin+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s\n%v\n%s", f.text, err, out)
			}
			output, ran = string(out), ran+1
		case "text":
			for line := range strings.Lines(f.text) {
				if !strings.Contains(output, strings.TrimSuffix(line, "\n")) {
					t.Errorf("no %q in\n%s", line, output)
				}
			}
		case "lua":
			written, err := os.ReadFile(filepath.Join(p.dir, "tests/hello.test.lua"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(string(written), f.text) {
				t.Errorf("the README shows\n%s\nand init writes\n%s", f.text, written)
			}
		}
	}
	if ran < 2 {
		t.Errorf("%d blocks were run", ran)
	}
}
