package process

import (
	"strings"

	"provium/internal/wire"
)

// defaultPath is PATH of a command's environment.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// DefaultEnvironment returns the environment of a command for which the caller
// gave none.
func DefaultEnvironment() []string { return environment(&wire.Run{}, nil) }

// environment returns a command's environment: the defaults, what the user's
// account changes, and what the caller gave. The last one of a name wins.
func environment(r *wire.Run, user *account) []string {
	var base []string
	if !r.EnvClear {
		base = []string{"PATH=" + defaultPath, "HOME=/root", "TERM=linux", "LANG=C.UTF-8"}
		if user != nil {
			base[1] = "HOME=" + user.home
			base = append(base, "USER="+user.name, "LOGNAME="+user.name)
		}
	}
	if len(r.Env) == 0 {
		return base
	}
	env := make([]string, 0, len(base)+len(r.Env))
next:
	for _, kv := range base {
		name := kv[:strings.IndexByte(kv, '=')+1]
		for _, given := range r.Env {
			if strings.HasPrefix(given, name) {
				continue next
			}
		}
		env = append(env, kv)
	}
	return append(env, r.Env...)
}
