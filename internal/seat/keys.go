package seat

import (
	"fmt"
	"slices"
	"strings"
)

// Chord is keys that are pressed in this order and released in the opposite one, by QEMU's names.
type Chord []string

// named are the keys that have names of more than one character.
var named = []string{
	"esc", "tab", "ret", "spc", "backspace", "caps_lock", "shift", "shift_r", "ctrl", "ctrl_r", "alt", "alt_r",
	"meta_l", "meta_r", "menu", "insert", "delete", "home", "end", "pgup", "pgdn", "up", "down", "left", "right",
	"f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12", "sysrq", "pause", "scroll_lock",
	"num_lock", "kp_0", "kp_1", "kp_2", "kp_3", "kp_4", "kp_5", "kp_6", "kp_7", "kp_8", "kp_9", "kp_add",
	"kp_subtract", "kp_multiply", "kp_divide", "kp_decimal", "kp_enter",
	"minus", "equal", "bracket_left", "bracket_right", "semicolon", "apostrophe", "grave_accent", "backslash", "comma",
	"dot", "slash", "less",
}

// signs are the keys of characters that are neither letters nor digits: as they are, and with shift.
var signs = []struct {
	key            string
	plain, shifted byte // 0: nothing
}{
	{"minus", '-', '_'}, {"equal", '=', '+'}, {"bracket_left", '[', '{'}, {"bracket_right", ']', '}'},
	{"semicolon", ';', ':'}, {"apostrophe", '\'', '"'}, {"grave_accent", '`', '~'}, {"backslash", '\\', '|'},
	{"comma", ',', '<'}, {"dot", '.', '>'}, {"slash", '/', '?'}, {"spc", ' ', 0}, {"tab", '\t', 0}, {"ret", '\n', 0},
}

// shiftedDigits are what the keys 0 to 9 write with shift.
const shiftedDigits = ")!@#$%^&*("

// MaxText is how much can be typed at once, in bytes.
const MaxText = 64 << 10

// Text returns the keys that write a text.
func Text(text string) ([]Chord, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("a text of %d bytes, at most %d can be typed at once", len(text), MaxText)
	}
	var out []Chord
	for _, r := range text {
		chord := ofCharacter(r)
		if chord == nil {
			return nil, fmt.Errorf("the character %q cannot be typed (valid: printable ASCII, \\t, \\n; "+
				"keyboard:press has other keys)", r)
		}
		out = append(out, chord)
	}
	return out, nil
}

// ofCharacter returns the keys of a character, nil for one that the keyboard does not have.
func ofCharacter(r rune) Chord {
	switch {
	case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
		return Chord{string(r)}
	case r >= 'A' && r <= 'Z':
		return Chord{"shift", string(r - 'A' + 'a')}
	}
	if i := strings.IndexRune(shiftedDigits, r); i >= 0 {
		return Chord{"shift", string(rune('0' + i))}
	}
	for _, s := range signs {
		switch {
		case r == rune(s.plain):
			return Chord{s.key}
		case s.shifted != 0 && r == rune(s.shifted):
			return Chord{"shift", s.key}
		}
	}
	return nil
}

// Keys returns the keys that a name stands for: "f2", or several that are held together, "ctrl-alt-delete".
func Keys(name string) (Chord, error) {
	var out Chord
	for key := range strings.SplitSeq(name, "-") {
		if !isKey(key) {
			return nil, fmt.Errorf("%q is no key (valid: a to z, 0 to 9, %s; several that are held together with "+
				"dashes, as in \"ctrl-alt-delete\")", key, strings.Join(named, ", "))
		}
		if slices.Contains(out, key) {
			return nil, fmt.Errorf("%q has the key %q twice", name, key)
		}
		out = append(out, key)
	}
	return out, nil
}

func isKey(name string) bool {
	if len(name) == 1 {
		return name[0] >= 'a' && name[0] <= 'z' || name[0] >= '0' && name[0] <= '9'
	}
	return slices.Contains(named, name)
}
