package visit

import (
	"context"
	"errors"
	"testing"
)

func TestVisits(t *testing.T) {
	var v Visits
	v.EndAll(nil) // without a visit it does nothing
	reason := errors.New("a snapshot")
	left := make(chan error, 2)
	for range 2 {
		ctx, end := v.Begin(context.Background())
		go func() {
			<-ctx.Done()
			left <- context.Cause(ctx)
			end()
		}()
	}
	_, end := v.Begin(context.Background())
	end()
	v.EndAll(reason)
	for range 2 {
		select {
		case err := <-left:
			if !errors.Is(err, reason) {
				t.Error(err)
			}
		default:
			t.Fatal("EndAll has not waited")
		}
	}
	if len(v.all) > 0 {
		t.Error(len(v.all), "visits are left")
	}
}
