// Package parallel does one thing to many at once. It has no limit on how many run
// side by side, and does not stop early: what was begun is waited for.
//
// Start reading at Each.
package parallel

import "sync"

// Each calls do for every item, all at once, and waits for all calls. It returns their
// errors, one per item.
func Each[T any](items []T, do func(T) error) []error {
	errs := make([]error, len(items))
	var calls sync.WaitGroup
	for i, item := range items {
		calls.Go(func() { errs[i] = do(item) })
	}
	calls.Wait()
	return errs
}

// InTurn is Each with one call after the other, in the order of items.
func InTurn[T any](items []T, do func(T) error) []error {
	errs := make([]error, len(items))
	for i, item := range items {
		errs[i] = do(item)
	}
	return errs
}
