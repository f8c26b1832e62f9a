package rewind

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Word is what a person types.
const Word = "rewind"

// Wish is the state that a person wants. The zero value is the last one.
type Wish struct {
	Number int    // as List has it; 0: not by its number
	Where  string // FILE:LINE of the operation; "": not by its place
}

func (w Wish) String() string {
	if w.Where != "" {
		return "`" + w.Where + "`"
	}
	return strconv.Itoa(w.Number)
}

// call is a call of Word, whose argument has parentheses or is a string.
var call = regexp.MustCompile(`^` + Word + `\s*(?:\((.*)\)|(["'].*["']))?\s*;?$`)

// Parse returns the wish that a line asks for. ok is false for a line that is ordinary Lua.
func Parse(line string) (w Wish, ok bool, err error) {
	found := call.FindStringSubmatch(strings.TrimSpace(line))
	if found == nil {
		return w, false, nil
	}
	argument := strings.TrimSpace(found[1] + found[2])
	if argument == "" {
		return w, true, nil
	}
	if q := argument[0]; (q == '"' || q == '\'') && len(argument) > 2 && argument[len(argument)-1] == q {
		w.Where = argument[1 : len(argument)-1]
		return w, true, nil
	}
	if w.Number, err = strconv.Atoi(argument); err != nil || w.Number < 1 {
		return Wish{}, true, fmt.Errorf("%s: expected the number of a state, from 1 on, or \"FILE:LINE\"; got %s", Word,
			argument)
	}
	return w, true, nil
}
