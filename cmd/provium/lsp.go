package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"provium/internal/luaapi"
	"provium/internal/run"
)

const (
	typesDir   = ".provium-meta"
	typesFile  = "types.lua"
	editorFile = ".luarc.json"
)

// editorPart is what the language server has to know, and what an existing configuration of it
// needs.
const editorPart = `{
  "runtime.version": "Lua 5.4",
  "workspace.library": [".provium-meta"]
}
`

// sumLine begins the line with the checksum of the definitions, by which those that a person
// has changed are known.
const sumLine = "-- sha256:"

// typesText returns the definitions with their checksum behind them.
func typesText() string {
	text := luaapi.Types()
	return text + sumLine + typesSum(text) + "\n"
}

func typesSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// editedByHand reports whether definitions are not as a version of this program wrote them.
func editedByHand(text string) bool {
	i := strings.LastIndex(text, sumLine)
	return i < 0 || text[i:] != sumLine+typesSum(text[:i])+"\n"
}

func (p *program) lspSetupCommand() *cobra.Command {
	var force bool
	flags := newGroup("Flags")
	flags.flags.BoolVar(&force, "force", false, "replace files that exist")
	cmd := &cobra.Command{
		Use:   "lsp-setup [DIR] [FLAGS]",
		Short: "Write definitions of the Lua API for editors",
		Long: `lsp-setup writes DIR/.provium-meta/types.lua, the definitions of the Lua API, and
DIR/.luarc.json, which names them to the Lua language server (LuaLS). An existing
.luarc.json is kept: what to add to it is printed, and the exit code is 1.
Definitions that were edited by hand are kept, too.`,
		ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, "expected at most one directory, got %d", len(args))
			}
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			if dir == "" {
				return usage(cmd, "expected a directory, got an empty path")
			}
			merge, err := p.setUpEditor(cmd.OutOrStdout(), dir, force)
			if err != nil {
				return fmt.Errorf("lsp-setup: %w", err)
			}
			if merge {
				fmt.Fprintf(cmd.OutOrStdout(), "%s exists and was kept; add this to it (--force replaces it):\n%s",
					filepath.Join(dir, editorFile), editorPart)
				p.code = run.ExitFailed
			}
			return nil
		},
	}
	finish(cmd, flags)
	return cmd
}

// setUpEditor writes what an editor needs below a directory. merge says that a configuration
// of the language server is there that does not have it.
func (p *program) setUpEditor(out io.Writer, dir string, force bool) (merge bool, err error) {
	types := filepath.Join(p.absolute(dir), typesDir, typesFile)
	old, err := os.ReadFile(types)
	switch {
	case err == nil && !force && editedByHand(string(old)):
		fmt.Fprintf(out, "kept %s, which was edited by hand\n", filepath.Join(dir, typesDir, typesFile))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	default:
		if err := os.MkdirAll(filepath.Dir(types), 0o755); err != nil {
			return false, err
		}
		if err := os.WriteFile(types, []byte(typesText()), 0o644); err != nil {
			return false, err
		}
		fmt.Fprintf(out, "wrote %s\n", filepath.Join(dir, typesDir, typesFile))
	}
	editor := filepath.Join(p.absolute(dir), editorFile)
	old, err = os.ReadFile(editor)
	switch {
	case err == nil && !force:
		return !namesTypes(old), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	if err := os.WriteFile(editor, []byte(editorPart), 0o644); err != nil {
		return false, err
	}
	fmt.Fprintf(out, "wrote %s\n", filepath.Join(dir, editorFile))
	return false, nil
}

// namesTypes reports whether a configuration of the language server names the definitions.
func namesTypes(text []byte) bool {
	if bytes.Equal(text, []byte(editorPart)) {
		return true
	}
	var known struct {
		Library []string `json:"workspace.library"`
	}
	return json.Unmarshal(text, &known) == nil && slices.Contains(known.Library, typesDir)
}

// helpAPI is `provium help api [NAME]`.
func helpAPI(cmd *cobra.Command, names []string) error {
	out := cmd.OutOrStdout()
	if len(names) == 0 {
		fmt.Fprint(out, luaapi.Overview())
		return nil
	}
	name := strings.Join(names, ":")
	found := luaapi.Find(name)
	if len(found) == 0 {
		hint := ""
		if best := nearestAPI(name); best != "" {
			hint = fmt.Sprintf("; did you mean `%s`?", best)
		}
		return usage(cmd, "unknown name `%s`%s (`provium help api` lists all)", name, hint)
	}
	if len(found) > 3 { // a member of many classes
		fmt.Fprintf(out, "`%s` is in several classes:\n", name)
		for _, e := range found {
			fmt.Fprintf(out, "  %s\n", e.Name())
		}
		return nil
	}
	for i, e := range found {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprint(out, e.Help())
	}
	return nil
}

// nearestAPI returns the name of the API that is nearest to a wrong one: in its class, if
// that is right.
func nearestAPI(name string) string {
	class, member, ok := strings.Cut(strings.ReplaceAll(name, ".", ":"), ":")
	if ok {
		if found := luaapi.Find(class); len(found) > 0 && found[0].Method == nil && found[0].Field == nil {
			c := found[len(found)-1].Class
			if best := luaapi.Nearest(member, c.Members()); best != "" {
				return luaapi.Find(c.Name + ":" + best)[0].Name()
			}
		}
	}
	if best := luaapi.Nearest(name, luaapi.Names()); best != "" || ok {
		return best
	}
	var members []string
	for _, c := range luaapi.Classes() {
		members = append(members, c.Members()...)
	}
	if best := luaapi.Nearest(name, members); best != "" {
		return luaapi.Find(best)[0].Name()
	}
	return ""
}
