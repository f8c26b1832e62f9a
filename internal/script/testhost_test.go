package script

import (
	"testing"

	"provium/internal/fakemachine"
	"provium/internal/lab"
)

// testHost returns a host of fake machines with the profile `host`.
func testHost(t testing.TB) *lab.Host {
	machines := fakemachine.New(t)
	return &lab.Host{
		Profiles: map[string]*lab.Profile{"host": {Name: "host", Accel: "tcg"}}, ConfigPath: "provium.toml",
		TempDir: t.TempDir(), Starter: machines, Images: machines,
	}
}
