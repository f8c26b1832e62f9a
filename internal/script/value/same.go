package value

import "provium/internal/lua"

// Difference is where two values first differ.
type Difference struct {
	Left, Right lua.Value

	keys []lua.Value // that lead there, innermost first
}

// Path returns where it is from the outermost table: a.b[3]; "" is the values themselves.
func (d *Difference) Path() (path string) {
	for i := len(d.keys) - 1; i >= 0 && len(path) < longestPath; i-- {
		path = FieldPath(path, d.keys[i])
	}
	return Clip(path, longestPath)
}

const longestPath = 500 // bytes

// comparison compares two values by what they hold.
type comparison struct {
	equal func(l, r lua.Value) (bool, error)
	seen  map[[2]uintptr]bool // pairs of tables that are compared or known to be the same
}

// Compare returns the first difference of two values, or nil. Tables are the
// same if they have the same keys with the same values, whatever their metatables; cycles are
// followed once. All other values are compared by equal, and so are tables at first. Keys
// are compared by identity.
func Compare(left, right lua.Value, equal func(l, r lua.Value) (bool, error)) (*Difference, error) {
	c := &comparison{equal: equal, seen: map[[2]uintptr]bool{}}
	return c.values(left, right)
}

func (c *comparison) values(left, right lua.Value) (*Difference, error) {
	if same, err := c.equal(left, right); err != nil || same {
		return nil, err
	}
	l, ok1 := left.(*lua.Table)
	r, ok2 := right.(*lua.Table)
	if !ok1 || !ok2 {
		return &Difference{Left: left, Right: right}, nil
	}
	pair := [2]uintptr{l.Pointer(), r.Pointer()}
	if c.seen[pair] {
		return nil, nil
	}
	c.seen[pair] = true
	for _, p := range SortedPairs(l) {
		d, err := c.values(p.Value, r.Get(p.Key))
		if err != nil {
			return nil, err
		}
		if d != nil {
			d.keys = append(d.keys, p.Key)
			return d, nil
		}
	}
	for _, p := range SortedPairs(r) {
		if l.Get(p.Key) == nil {
			return &Difference{Right: p.Value, keys: []lua.Value{p.Key}}, nil
		}
	}
	return nil, nil
}
