package agent_test

import (
	"testing"

	"provium/internal/guest"
)

func BenchmarkPing(b *testing.B) {
	c := connect(b)
	for b.Loop() {
		if err := c.Ping(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRunTrue(b *testing.B) {
	c := connect(b)
	for b.Loop() {
		if _, err := c.Run(b.Context(), guest.RunRequest{Shell: "true"}); err != nil {
			b.Fatal(err)
		}
	}
}
