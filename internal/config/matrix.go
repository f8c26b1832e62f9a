package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// matrixKey is the key of a profile that makes several of it.
const matrixKey = "matrix"

// cell is one profile of a matrix.
type cell struct {
	label  string
	kernel string // as the key of a profile has it
}

// kernelRelease matches releases of kernels, whole or their beginnings.
var kernelRelease = regexp.MustCompile(`^[0-9]+\.[0-9]+(\.[0-9]+)*(-[0-9A-Za-z.+~_-]+)?$`)

// kernelInto reads the kernel of a profile: a path, or a release.
func kernelInto(path, release *string, at base) func(any) error {
	return func(v any) error {
		if text, ok := v.(string); ok && kernelRelease.MatchString(text) {
			*release = text
			return nil
		}
		return pathInto(path, at)(v)
	}
}

// addProfile adds the profile of a table, or those of its matrix. Relative paths start at dir.
func (c *Config) addProfile(name, key string, table map[string]any, dir string, env Env) error {
	cells, err := readMatrix(name, joinKey(key, matrixKey), table)
	if err != nil {
		return err
	}
	if cells == nil {
		p, err := readProfile(name, key, table, dir, env)
		if err != nil {
			return err
		}
		return c.enter(p, key)
	}
	table = maps.Clone(table)
	delete(table, matrixKey)
	env.isCell = true
	for i, one := range cells {
		table["kernel"] = one.kernel
		p, err := readProfile(name+"-"+one.label, key, table, dir, env)
		if err != nil {
			return err
		}
		p.Matrix = name
		if err := c.enter(p, key); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		p.Name = name
		if err := c.enter(p, key); err != nil {
			return err
		}
	}
	return nil
}

// enter adds a profile whose name nobody else may have.
func (c *Config) enter(p Profile, key string) error {
	if other, twice := c.Profiles[p.Name]; twice {
		of := fmt.Sprintf("stands in %s and below %s", filepath.Base(c.Path), fromDirKey)
		if m := other.Matrix + p.Matrix; m != "" {
			of = fmt.Sprintf("is one of the matrix of profile `%s`, and another one", m)
		}
		return &keyError{key, fmt.Errorf("profile `%s` %s", p.Name, of)}
	}
	c.Profiles[p.Name] = p
	return nil
}

// readMatrix returns the cells of a profile's matrix, nil without one. They are named by their kernels, or as the
// table of kernels says.
func readMatrix(name, full string, table map[string]any) (cells []cell, err error) {
	v, ok := table[matrixKey]
	if !ok {
		return nil, nil
	}
	fail := func(err error) error { return &keyError{full, fmt.Errorf("profile `%s` matrix: %w", name, err)} }
	if _, twice := table["kernel"]; twice {
		return nil, fail(errors.New("it has a kernel, too; the matrix says which kernels there are"))
	}
	matrix := map[string]any{}
	if err := tableInto(&matrix)(v); err != nil {
		return nil, fail(err)
	}
	err = section{where: fmt.Sprintf("profile `%s` matrix", name), key: full, valid: []key{
		{"kernel", func(v any) (err error) { cells, err = readKernels(v); return err }},
	}}.read(matrix)
	if err != nil {
		return nil, err
	}
	if len(cells) == 0 {
		return nil, fail(errors.New("kernel: expected at least one kernel"))
	}
	seen := map[string]string{}
	for _, c := range cells {
		if other, twice := seen[c.label]; twice {
			return nil, fail(fmt.Errorf("kernel: `%s` and `%s` would both be profile `%s-%s`; name them, as "+
				"`matrix.kernel = {old = \"%s\", new = \"%s\"}`", other, c.kernel, name, c.label, other, c.kernel))
		}
		seen[c.label] = c.kernel
	}
	return cells, nil
}

// maxCells is how many profiles a matrix may make.
const maxCells = 100

// readKernels reads an array of kernels, or a table of them by name.
func readKernels(v any) (cells []cell, err error) {
	switch v := v.(type) {
	case []any:
		for i, entry := range v {
			text, ok := entry.(string)
			if !ok || strings.TrimSpace(text) == "" {
				return nil, fmt.Errorf("entry %d: expected a release or a path, got %s", i+1, kindOf(entry))
			}
			label := text
			if !kernelRelease.MatchString(text) {
				label = filepath.Base(filepath.Clean(text))
			}
			cells = append(cells, cell{label, text})
		}
	case map[string]any:
		for _, label := range sortedKeys(v) {
			text, ok := v[label].(string)
			if !ok || label == "" {
				return nil, fmt.Errorf("`%s`: expected a release or a path, got %s", label, kindOf(v[label]))
			}
			cells = append(cells, cell{label, text})
		}
	default:
		return nil, fmt.Errorf("expected an array of kernels or a table of them by name, got %s", kindOf(v))
	}
	if len(cells) > maxCells {
		return nil, fmt.Errorf("%d kernels are too many, at most %d are taken", len(cells), maxCells)
	}
	return cells, nil
}

// Pick has tests that name a profile with a matrix boot the profile of that matrix which is named here.
func (c *Config) Pick(names []string) error {
	picked := map[string]string{}
	for _, name := range names {
		p, ok := c.Profiles[name]
		if !ok || p.Matrix == "" || p.Name == p.Matrix {
			return fmt.Errorf("`%s` is not a profile of a matrix%s", name, c.listCells())
		}
		if other, twice := picked[p.Matrix]; twice && other != name {
			return fmt.Errorf("`%s` and `%s` are both of the matrix of profile `%s`: one can be picked", other, name,
				p.Matrix)
		}
		picked[p.Matrix] = name
		p.Name = p.Matrix
		c.Profiles[p.Matrix] = p
	}
	return nil
}

// listCells says which profiles can be picked.
func (c *Config) listCells() string {
	var names []string
	for name, p := range c.Profiles {
		if p.Matrix != "" && p.Matrix != name {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("; %s has none (key `matrix.kernel` of a profile)", filepath.Base(c.Path))
	}
	slices.Sort(names)
	return fmt.Sprintf("; %s has: %s", filepath.Base(c.Path), strings.Join(names, ", "))
}
