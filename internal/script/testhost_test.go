package script

import (
	"testing"

	"provium/internal/lab"
)

// testHost is a host that boots no guests, with the profile `host`.
func testHost(t testing.TB) *lab.Host {
	return &lab.Host{
		Profiles: map[string]*lab.Profile{"host": {Name: "host"}}, ConfigPath: "provium.toml",
		TempDir: t.TempDir(), NoGuests: true,
	}
}
