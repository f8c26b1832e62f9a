package luascan

import (
	"slices"
	"strconv"
	"strings"

	"provium/internal/config"
	"provium/internal/event"
)

// Literals finds the fixtures that a test file names literally and the profiles of the VMs
// that it so declares, each once in order of appearance, and the claim that it makes with
// literals at file scope: provium:claim({memory = "2G", cpus = 2}) as a statement that stands
// in no block. What is computed is not found; it takes effect when the file runs.
func Literals(text []byte) (fixtures, profiles []string, claim *event.Amount) {
	fixtures = []string{}
	l := newLexer(text)
	var depth int // of blocks, parentheses and table constructors
	previous := token{kind: tokenEnd}
	for {
		t := l.next()
		switch t.kind {
		case tokenEnd:
			return fixtures, profiles, claim
		case tokenName:
			switch t.text {
			case "vm_fixture", "lab_fixture":
				if name, ok := stringArgument(l); ok && !slices.Contains(fixtures, name) {
					fixtures = append(fixtures, name)
				}
			case "vm":
				if name, ok := profileArgument(l); ok && !slices.Contains(profiles, name) {
					profiles = append(profiles, name)
				}
			case "provium":
				if claim == nil && depth == 0 && endsStatement(previous) {
					claim = claimCall(l)
				}
			case "function", "do", "if", "repeat": // while and for have their do
				depth++
			case "end", "until":
				depth--
			}
		case tokenSymbol:
			switch t.text {
			case "(", "{", "[":
				depth++
			case ")", "}", "]":
				depth--
			}
		}
		previous = t
	}
}

// endsStatement reports whether a name behind this token begins a statement.
func endsStatement(t token) bool {
	switch t.kind {
	case tokenName:
		switch t.text {
		case "and", "or", "not", "return", "in", "local", "function", "goto", "if", "elseif", "while", "until", "for":
			return false
		}
		return true
	case tokenSymbol:
		return slices.Contains([]string{";", ")", "]", "}", "::", "..."}, t.text)
	}
	return true // the beginning, or the end of an expression
}

// stringArgument reads f("text"), f("text", …) or f"text" behind f. The lexer
// is a copy, so nothing is consumed.
func stringArgument(l lexer) (string, bool) {
	t := l.next()
	if t.kind == tokenString {
		return t.text, t.text != ""
	}
	if !t.is(tokenSymbol, "(") {
		return "", false
	}
	name := l.next()
	after := l.next()
	ok := name.kind == tokenString && name.text != "" && (after.is(tokenSymbol, ")") || after.is(tokenSymbol, ","))
	return name.text, ok
}

// profileArgument reads vm("name", "profile") behind vm.
func profileArgument(l lexer) (string, bool) {
	open, name, comma, profile := l.next(), l.next(), l.next(), l.next()
	ok := open.is(tokenSymbol, "(") && name.kind == tokenString && comma.is(tokenSymbol, ",") &&
		profile.kind == tokenString && profile.text != ""
	return profile.text, ok
}

// claimCall reads :claim({…}) or :claim{…} behind the lab; nil when something
// else stands there, or a claim that is computed or wrong.
func claimCall(l lexer) *event.Amount {
	if !l.next().is(tokenSymbol, ":") || !l.next().is(tokenName, "claim") {
		return nil
	}
	t := l.next()
	parenthesis := t.is(tokenSymbol, "(")
	if parenthesis {
		t = l.next()
	}
	if !t.is(tokenSymbol, "{") {
		return nil
	}
	claim := claimTable(&l)
	if parenthesis && !l.next().is(tokenSymbol, ")") {
		return nil
	}
	return claim
}

// claimTable reads the constructor behind its opening brace.
func claimTable(l *lexer) *event.Amount {
	var claim event.Amount
	for {
		key := l.next()
		if key.is(tokenSymbol, "}") {
			if claim == (event.Amount{}) {
				return nil
			}
			return &claim
		}
		if key.is(tokenSymbol, "[") {
			key = l.next()
			if key.kind != tokenString || !l.next().is(tokenSymbol, "]") {
				return nil
			}
		} else if key.kind != tokenName {
			return nil
		}
		if !l.next().is(tokenSymbol, "=") || !claimField(&claim, key.text, l.next()) {
			return nil
		}
		after := *l
		switch t := after.next(); {
		case t.is(tokenSymbol, ","), t.is(tokenSymbol, ";"):
			*l = after
		case !t.is(tokenSymbol, "}"):
			return nil // an operator: the value is computed
		}
	}
}

// maxClaimCPUs is above what any machine has.
const maxClaimCPUs = 1 << 20

// claimField sets one field from a literal; false when the call would not
// accept it.
func claimField(claim *event.Amount, key string, value token) bool {
	switch key {
	case "memory", "memory_bytes":
		if claim.MemoryBytes != 0 {
			return false
		}
		n, ok := claimMemory(key, value)
		if !ok || n < 1 {
			return false
		}
		claim.MemoryBytes = uint64(n)
		return true
	case "cpus":
		n, ok := luaInteger(value.text)
		if value.kind != tokenNumber || !ok || n < 1 || n > maxClaimCPUs || claim.CPUs != 0 {
			return false
		}
		claim.CPUs = uint32(n)
		return true
	}
	return false
}

// claimMemory reads an integer of bytes or, as memory, a size with its unit.
func claimMemory(key string, value token) (int64, bool) {
	switch {
	case value.kind == tokenNumber:
		return luaInteger(value.text)
	case value.kind == tokenString && key == "memory" && strings.TrimRight(value.text, "KMGT") != value.text:
		n, err := config.ParseSize(value.text)
		return n, err == nil
	}
	return 0, false
}

// luaInteger reads a numeral whose value is a positive integer.
func luaInteger(text string) (int64, bool) {
	if strings.Contains(text, "_") { // which Go allows
		return 0, false
	}
	if hex, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
		n, err := strconv.ParseInt(hex, 16, 64)
		return n, err == nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	n := int64(f)
	return n, err == nil && f < 1<<62 && float64(n) == f
}

// Uses are the files that Lua source names literally.
type Uses struct {
	Modules []string // of require
	Pushed  []string // by push_file: paths relative to the source
	Read    []string // by dofile, loadfile and io.lines: paths relative to the project
}

// UsesOf finds the files that Lua source names literally, wherever that is in it.
func UsesOf(text []byte) (u Uses) {
	l := newLexer(text)
	for {
		t := l.next()
		if t.kind == tokenEnd {
			return u
		}
		if t.kind != tokenName {
			continue
		}
		var to *[]string
		switch t.text {
		case "require":
			to = &u.Modules
		case "push_file":
			to = &u.Pushed
		case "dofile", "loadfile", "lines":
			to = &u.Read
		default:
			continue
		}
		if name, ok := stringArgument(l); ok {
			*to = append(*to, name)
		}
	}
}
