package topology

import (
	"fmt"
	"strings"
)

// UnknownProfile returns the error of a profile that is not among those known, of the
// configuration file at config; "" is any provium.toml.
func UnknownProfile(name, config string, known []string) error {
	if config == "" {
		config = "provium.toml"
	}
	if len(known) == 0 {
		return fmt.Errorf("unknown profile `%s`: %s defines none; add a [profiles.%s] section to provium.toml",
			name, config, name)
	}
	return fmt.Errorf("unknown profile `%s` in %s (provium.toml has: %s)", name, config, strings.Join(known, ", "))
}
