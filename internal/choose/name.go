package choose

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// expression returns the regular expression of /re/, and false for any other text.
func expression(name string) (string, bool) {
	if len(name) > 2 && strings.HasPrefix(name, "/") && strings.HasSuffix(name, "/") {
		return name[1 : len(name)-1], true
	}
	return "", false
}

// CheckName returns what is wrong with a name as for Filter.Names.
func CheckName(name string) error {
	if name == "" {
		return errors.New("expected a text that is not empty")
	}
	re, ok := expression(name)
	if !ok {
		return nil
	}
	if _, err := regexp.Compile(re); err != nil {
		return fmt.Errorf("bad regular expression: %w", err)
	}
	return nil
}

// MatchesName reports whether the name of a test matches one of Filter.Names: it contains the
// text, or the regular expression between slashes matches it.
func MatchesName(name, test string) bool {
	re, ok := expression(name)
	if !ok {
		return strings.Contains(test, name)
	}
	compiled, err := regexp.Compile(re)
	return err == nil && compiled.MatchString(test)
}
