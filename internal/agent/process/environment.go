package process

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// defaultPath is PATH of a command's environment.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// DefaultEnvironment returns the environment of a command for which the caller
// gave none.
func DefaultEnvironment() []string { return environment(&wire.Run{}, nil) }

func cwd(r *wire.Run) string {
	if r.Cwd == "" {
		return "/"
	}
	return r.Cwd
}

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

// program returns the file to execute and its arguments. A name without a slash
// is searched for in PATH.
func program(r *wire.Run, env []string) (path string, argv []string, err error) {
	if len(r.Args) == 0 {
		return "/bin/sh", []string{"/bin/sh", "-c", r.Shell}, nil
	}
	name := r.Args[0]
	if name == "" {
		return "", nil, syscall.ENOENT
	}
	if strings.IndexByte(name, '/') >= 0 {
		return name, r.Args, nil
	}
	search := defaultPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = v
		}
	}
	err = syscall.ENOENT
	for dir := range strings.SplitSeq(search, ":") {
		if !strings.HasPrefix(dir, "/") {
			// Relative to where the command starts, as a shell there would.
			dir = strings.TrimSuffix(cwd(r), "/") + "/" + dir
		}
		candidate := strings.TrimSuffix(dir, "/") + "/" + name
		var st unix.Stat_t
		if unix.Stat(candidate, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		if st.Mode&0o111 != 0 {
			return candidate, r.Args, nil
		}
		err = syscall.EACCES
	}
	return "", nil, err
}
