package process

import (
	"strings"

	"provium/internal/wire"
)

// defaultPath is PATH of a command's environment.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Defaults are what a command has unless its caller says something else.
type Defaults struct {
	Env  []string // beside PATH, HOME, TERM and LANG
	Dir  string   // "" is that of the executor
	User string   // "" is that of the executor
}

// DefaultEnvironment returns the environment of a command for which neither the guest nor the
// caller has one.
func DefaultEnvironment() []string { return environment(&wire.Run{}, nil, nil) }

// environment returns a command's environment: what every command has, what the user's
// account changes, what the guest has, and what the caller gave. The last one of a name wins.
func environment(r *wire.Run, user *account, guest []string) []string {
	var base []string
	if !r.EnvClear {
		base = []string{"PATH=" + defaultPath, "HOME=/root", "TERM=linux", "LANG=C.UTF-8"}
		if user != nil {
			base[1] = "HOME=" + user.home
			base = append(base, "USER="+user.name, "LOGNAME="+user.name)
		}
	}
	if !r.EnvClear {
		base = merged(base, guest)
	}
	return merged(base, r.Env)
}

// merged returns the variables of base that more does not have, and more.
func merged(base, more []string) []string {
	if len(more) == 0 {
		return base
	}
	env := make([]string, 0, len(base)+len(more))
next:
	for _, kv := range base {
		name := kv[:strings.IndexByte(kv, '=')+1]
		for _, given := range more {
			if strings.HasPrefix(given, name) {
				continue next
			}
		}
		env = append(env, kv)
	}
	return append(env, more...)
}
