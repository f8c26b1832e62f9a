package lua

// #include "glue.h"
import "C"

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// openLibrary replaces the functions of the standard library that would act on
// more than the State: print, os.exit, os.tmpname and the search for modules.
func (s *State) openLibrary() error {
	g := s.Globals()
	osLib, ok1 := g.Get("os").(*Table)
	pkg, ok2 := g.Get("package").(*Table)
	if !ok1 || !ok2 {
		return errors.New("standard library is incomplete")
	}
	searchers, ok := pkg.Get("searchers").(*Table)
	if !ok {
		return errors.New("standard library has no package.searchers")
	}
	s.tostring, ok = g.Get("tostring").(*Function)
	if !ok {
		return errors.New("standard library has no tostring")
	}
	tmpname := osLib.Get("tmpname")
	if s.cfg.TempDir != "" {
		tmpname = s.NewFunction("os.tmpname", s.tmpname)
	}
	for _, set := range []struct {
		t   *Table
		key Value
		v   Value
	}{
		{g, "print", s.NewFunction("print", s.print)},
		{osLib, "exit", s.NewFunction("os.exit", osExit)},
		{osLib, "tmpname", tmpname},
		{searchers, 2, s.NewFunction("require", s.searchModule)},
		{searchers, 4, nil},
		{searchers, 3, nil},
		{pkg, "loadlib", nil},
		{pkg, "path", ""},
		{pkg, "cpath", ""},
	} {
		if err := set.t.Set(set.key, set.v); err != nil {
			return err
		}
	}
	return nil
}

// print is Lua's print to Config.Stdout.
func (s *State) print(c *Call) ([]Value, error) {
	var b strings.Builder
	for i := 1; i <= c.NArgs(); i++ {
		text, err := c.ToString(c.Arg(i))
		if err != nil {
			return nil, err
		}
		if i > 1 {
			b.WriteByte('\t')
		}
		b.WriteString(text)
	}
	b.WriteByte('\n')
	if _, err := io.WriteString(s.cfg.Stdout, b.String()); err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	return nil, nil
}

// tmpname is Lua's os.tmpname in Config.TempDir, which goes with its files.
func (s *State) tmpname(*Call) ([]Value, error) {
	f, err := os.CreateTemp(s.cfg.TempDir, "lua_")
	if err != nil {
		return nil, fmt.Errorf("os.tmpname: %w", err)
	}
	return []Value{f.Name()}, f.Close()
}

func osExit(*Call) ([]Value, error) {
	return nil, errors.New("os.exit: the host program cannot be ended from Lua; use error or return")
}

// searchModule is the searcher of require for Lua files.
func (s *State) searchModule(c *Call) ([]Value, error) {
	name, ok := c.Arg(1).(string)
	if !ok {
		return nil, fmt.Errorf("require: module name is a %s, not a string", TypeName(c.Arg(1)))
	}
	paths, err := s.modulePaths(name)
	if err != nil {
		return nil, err
	}
	var tried []string
	for _, path := range paths {
		if s.cfg.Opened != nil {
			if err := s.cfg.Opened(path); err != nil {
				return nil, err
			}
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			tried = append(tried, fmt.Sprintf("no file '%s'", path))
			continue
		}
		if err != nil {
			tried = append(tried, fmt.Sprintf("cannot read '%s': %v", path, errors.Unwrap(err)))
			continue
		}
		chunk := path
		if s.cfg.ChunkName != nil {
			chunk = s.cfg.ChunkName(path)
		}
		fn, err := s.LoadString(skipShebang(string(text)), chunk)
		if err != nil {
			// As it is: it names the file and the line.
			return nil, err
		}
		return []Value{s.moduleLoader(fn, path), path}, nil
	}
	if len(tried) == 0 {
		return []Value{fmt.Sprintf("no root to look for '%s' in", name)}, nil
	}
	return []Value{strings.Join(tried, "\n\t")}, nil
}

// moduleLoader returns what require calls to run the chunk of a module.
func (s *State) moduleLoader(chunk *Function, path string) *Function {
	if s.cfg.Running == nil {
		return chunk
	}
	return s.NewFunction("require", func(c *Call) ([]Value, error) {
		done, err := s.cfg.Running(path)
		if err != nil {
			return nil, err
		}
		args := make([]Value, c.NArgs())
		for i := range args {
			args[i] = c.Arg(i + 1)
		}
		values, err := c.Call(chunk, args...)
		return values, errors.Join(err, done())
	})
}

// modulePaths returns the files that may contain a module, in order.
func (s *State) modulePaths(name string) ([]string, error) {
	if name == "" || strings.ContainsRune(name, 0) {
		return nil, nil
	}
	rel := strings.ReplaceAll(name, ".", string(filepath.Separator))
	var paths []string
	for _, root := range s.cfg.Roots {
		paths = append(paths, filepath.Join(root, rel+".lua"), filepath.Join(root, rel, "init.lua"))
	}
	pkg, ok := s.Global("package").(*Table)
	if !ok {
		return paths, nil
	}
	templates, ok := pkg.Get("path").(string)
	if !ok {
		return nil, errors.New("'package.path' must be a string")
	}
	for _, p := range strings.Split(templates, ";") {
		if p != "" {
			paths = append(paths, strings.ReplaceAll(p, "?", rel))
		}
	}
	return paths, nil
}
