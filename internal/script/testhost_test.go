package script

import (
	"testing"

	"provium/internal/fakemachine"
	"provium/internal/lab"
)

// fakeHost returns a host of fake machines with the profile `host`.
func fakeHost(t testing.TB) (*lab.Host, *fakemachine.Machines) {
	machines := fakemachine.New(t)
	return &lab.Host{
		Profiles: map[string]*lab.Profile{"host": {Name: "host", Accel: "tcg"}}, ConfigPath: "provium.toml",
		TempDir: t.TempDir(), Starter: machines, Images: machines,
	}, machines
}

// testHost returns a host of fake machines for tests that do not look at them.
func testHost(t testing.TB) *lab.Host {
	host, _ := fakeHost(t)
	return host
}
