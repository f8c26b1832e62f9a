package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"provium/cmd/provium/internal/flagtext"
)

// parsed is a flag whose text is read by a function, which gives the error for
// a text that is not valid.
type parsed struct {
	set  func(string) error
	text string // the value for the help; "" shows none
	kind string
}

func (v *parsed) Set(text string) error {
	if err := v.set(text); err != nil {
		return err
	}
	v.text = text
	return nil
}

func (v *parsed) String() string { return v.text }
func (v *parsed) Type() string   { return v.kind }

// value makes a flag's value of a parser.
func value[T any](to *T, kind string, parse func(string) (T, error)) *parsed {
	return &parsed{kind: kind, set: func(text string) error {
		v, err := parse(text)
		if err == nil {
			*to = v
		}
		return err
	}}
}

// list makes a flag that may be repeated of a parser of one value.
func list[T any](to *[]T, kind string, parse func(string) (T, error)) *parsed {
	return &parsed{kind: kind, set: func(text string) error {
		v, err := parse(text)
		if err == nil {
			*to = append(*to, v)
		}
		return err
	}}
}

// shuffleFlag is --shuffle [SEED].
type shuffleFlag struct {
	on   bool
	seed *uint64 // nil: the seed of the run
}

func (f *shuffleFlag) Set(text string) error {
	if on, err := strconv.ParseBool(text); err == nil && (text == "true" || text == "false") {
		*f = shuffleFlag{on: on}
		return nil
	}
	seed, err := flagtext.Seed(text)
	if err != nil {
		return err
	}
	*f = shuffleFlag{on: true, seed: &seed}
	return nil
}

func (f *shuffleFlag) String() string { return "false" }

// Type lets the flag stand without a value.
func (f *shuffleFlag) Type() string { return "bool" }

// joinShuffleSeed makes `--shuffle 7` one argument, since a flag whose value may
// be left out takes only one behind an equals sign. A file called 7 is ./7.
func joinShuffleSeed(args []string) []string {
	out := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return append(out, args[i:]...)
		}
		if args[i] == "--shuffle" && i+1 < len(args) {
			if _, err := flagtext.Seed(args[i+1]); err == nil {
				out = append(out, "--shuffle="+args[i+1])
				i++
				continue
			}
		}
		out = append(out, args[i])
	}
	return out
}

// exclusive reports the first pair of switches that are both on.
func exclusive(cmd *cobra.Command, pairs ...[2]string) error {
	on := func(name string) bool {
		f := cmd.Flags().Lookup(name)
		return f != nil && f.Changed && f.Value.String() != "false"
	}
	for _, p := range pairs {
		if on(p[0]) && on(p[1]) {
			return usage(cmd, "--%s and --%s exclude each other, give one", p[0], p[1])
		}
	}
	return nil
}

// flagError explains what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var valueless *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown):
		name := "--" + unknown.GetSpecifiedName()
		if short := unknown.GetSpecifiedShortnames(); short != "" {
			name = "-" + unknown.GetSpecifiedName()
		}
		var valid []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				valid = append(valid, "--"+f.Name)
			}
		})
		return usage(cmd, "unknown flag `%s`%s (valid: %s)", name, didYouMean(name, valid), strings.Join(valid, ", "))
	case errors.As(err, &valueless):
		return usage(cmd, "flag `--%s` needs a value", valueless.GetFlag().Name)
	}
	return usage(cmd, "%w", err)
}

// didYouMean proposes the valid word nearest to a wrong one, if any is near: most of its
// characters are right.
func didYouMean(wrong string, valid []string) string {
	best, least := "", max(1, len(strings.TrimLeft(wrong, "-"))/3)+1
	for _, word := range valid {
		if d := mistakes(wrong, word); d < least {
			best, least = word, d
		}
	}
	if best == "" || least >= len(strings.TrimLeft(best, "-")) {
		return ""
	}
	return fmt.Sprintf("; did you mean `%s`?", best)
}

// mistakes counts the characters that are wrong, missing or too many. Two that are exchanged are
// one mistake.
func mistakes(wrong, right string) int {
	least := levenshtein.Distance(wrong, right, nil)
	for i := 0; i+1 < len(wrong); i++ {
		exchanged := wrong[:i] + wrong[i+1:i+2] + wrong[i:i+1] + wrong[i+2:]
		least = min(least, levenshtein.Distance(exchanged, right, nil)+1)
	}
	return least
}
