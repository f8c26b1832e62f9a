// Package flagtext reads the values of flags, and says what is wrong with them.
//
// It knows no flag and no command: package main has them. Start with Count.
package flagtext

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"provium/internal/choose"
	"provium/internal/config"
	"provium/internal/sched"
)

// Count reads a number of things, at least one.
func Count(text string) (int, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return 0, errors.New("expected a whole number, 1 or more")
	}
	return int(n), nil
}

// Durations reads how many tests to list.
func Durations(text string) (*int, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return nil, errors.New("expected a whole number, 0 for all")
	}
	count := int(n)
	return &count, nil
}

// VMM reports whether a run boots no kernel.
func VMM(text string) (local bool, err error) {
	switch text {
	case "qemu", "local":
		return text == "local", nil
	}
	return false, errors.New("expected qemu or local")
}

// Seed reads a seed.
func Seed(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		return 0, errors.New("expected a whole number from 0 to 2^64-1")
	}
	return n, nil
}

// GivenSeed is Seed for a flag that may be left out.
func GivenSeed(text string) (*uint64, error) {
	n, err := Seed(text)
	return &n, err
}

// Memory reads the memory of the pool, in bytes.
func Memory(text string) (int64, error) {
	n, err := config.ParseSize(text)
	if err == nil && n < sched.FileOverhead {
		return 0, fmt.Errorf("less than the %d MiB that each file takes", sched.FileOverhead>>20)
	}
	return n, err
}

// LeastGuest is less than any kernel boots with, in bytes.
const LeastGuest = 16 << 20

// GuestMemory reads the memory of one guest, in bytes.
func GuestMemory(text string) (int64, error) {
	n, err := config.ParseSize(text)
	if err == nil && n < LeastGuest {
		return 0, fmt.Errorf("no guest boots with less than %d MiB", LeastGuest>>20)
	}
	return n, err
}

// Factor reads a factor; not a number is auto.
func Factor(text string) (float64, error) {
	if text == "auto" {
		return math.NaN(), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, fmt.Errorf("expected auto, or a number from %v to %v", sched.MinOvercommit, sched.MaxOvercommit)
	}
	return f, nil
}

// NonEmpty reads any text but the empty one.
func NonEmpty(text string) (string, error) {
	if text == "" {
		return "", errors.New("expected a text that is not empty")
	}
	return text, nil
}

// TestName reads a text or /re/.
func TestName(text string) (string, error) { return text, choose.CheckName(text) }

// Keyword reads an expression of words.
func Keyword(text string) (string, error) { return text, choose.CheckKeyword(text) }

// Path reads a path.
func Path(text string) (string, error) {
	if text == "" {
		return "", errors.New("expected a path")
	}
	return text, nil
}

// Meta checks a KEY=VALUE.
func Meta(text string) (string, error) {
	key, _, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return "", errors.New("expected KEY=VALUE")
	}
	return text, nil
}
