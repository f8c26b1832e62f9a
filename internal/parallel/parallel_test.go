package parallel

import (
	"errors"
	"slices"
	"sync"
	"testing"
)

func TestEach(t *testing.T) {
	odd := errors.New("odd")
	var all sync.WaitGroup
	all.Add(4)
	errs := Each([]int{0, 1, 2, 3}, func(n int) error {
		all.Done()
		all.Wait() // every call is under way
		if n%2 == 1 {
			return odd
		}
		return nil
	})
	if !slices.Equal(errs, []error{nil, odd, nil, odd}) {
		t.Errorf("%v", errs)
	}
	if errs := Each(nil, func(int) error { return odd }); len(errs) != 0 {
		t.Errorf("%v", errs)
	}
}

func TestInTurn(t *testing.T) {
	odd := errors.New("odd")
	var seen []int
	errs := InTurn([]int{0, 1, 2}, func(n int) error {
		seen = append(seen, n)
		if n%2 == 1 {
			return odd
		}
		return nil
	})
	if !slices.Equal(errs, []error{nil, odd, nil}) || !slices.Equal(seen, []int{0, 1, 2}) {
		t.Errorf("%v of %v", errs, seen)
	}
}
