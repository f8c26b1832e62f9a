package config

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/pelletier/go-toml/v2/unstable"
)

// keyError is an error about the value of one key.
type keyError struct {
	key string // full name, see joinKey
	err error
}

func (e *keyError) Error() string { return e.err.Error() }

func (e *keyError) Unwrap() error { return e.err }

// joinKey makes the full name of a key. The separator cannot stand in TOML, so
// that a quoted key with dots stays different from a dotted one.
func joinKey(parent, name string) string {
	if parent == "" {
		return name
	}
	return parent + "\x00" + name
}

// locate adds the line of the key that err is about, if it is about one.
func locate(err error, text []byte) error {
	var ke *keyError
	if !errors.As(err, &ke) {
		return err
	}
	if line, ok := keyLines(text)[ke.key]; ok {
		return fmt.Errorf("%w (line %d)", err, line)
	}
	return err
}

// keyLines maps each key of a document that is known to parse, and each of its
// parents, to the line that mentions it first.
func keyLines(text []byte) map[string]int {
	ix := lineIndex{text: text, line: 1, lines: map[string]int{}}
	var p unstable.Parser
	p.Reset(text)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = ix.key(e.Key(), "")
		case unstable.KeyValue:
			ix.keyValue(e, table)
		}
	}
	return ix.lines
}

// lineIndex notes keys in the order of the document, so that it has to count
// its lines only once.
type lineIndex struct {
	text  []byte
	at    int // offset up to which lines were counted
	line  int // line of at
	lines map[string]int
}

// key notes a dotted key and its parents below parent.
func (ix *lineIndex) key(parts unstable.Iterator, parent string) (full string) {
	full = parent
	for parts.Next() {
		part := parts.Node()
		full = joinKey(full, string(part.Data))
		if to := int(part.Raw.Offset); to > ix.at && to <= len(ix.text) {
			ix.line += bytes.Count(ix.text[ix.at:to], []byte("\n"))
			ix.at = to
		}
		if _, known := ix.lines[full]; !known {
			ix.lines[full] = ix.line
		}
	}
	return full
}

// keyValue notes a key and the keys of an inline table that is its value.
func (ix *lineIndex) keyValue(kv *unstable.Node, parent string) {
	full := ix.key(kv.Key(), parent)
	v := kv.Value()
	if v.Kind != unstable.InlineTable {
		return
	}
	for it := v.Children(); it.Next(); {
		ix.keyValue(it.Node(), full)
	}
}
