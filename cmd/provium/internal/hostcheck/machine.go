package hostcheck

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/config"
	"provium/internal/sched"
)

// maxTempBase is how long the path of the temporary directory may be: a unix
// socket's path has 107 bytes, and a guest's sockets stand some levels below.
const maxTempBase = 60

// TempDir checks that temporary files can be made.
func TempDir(h Host) Result {
	r := Result{Name: "temporary directory", Found: h.TempBase, Effect: "holds what a run needs while it runs"}
	fail := func(effect string) Result {
		r.Status, r.Effect = Failure, effect
		r.Remedy = "set TMPDIR to a writable directory with a short path, such as /tmp"
		return r
	}
	if len(h.TempBase) > maxTempBase {
		return fail(fmt.Sprintf("the path has %d bytes, and more than %d leave no room for the sockets of guests",
			len(h.TempBase), maxTempBase))
	}
	if err := writable(h.TempBase); err != nil {
		return fail(fmt.Sprintf("not writable: %v", err))
	}
	return r
}

// writable tries to make a file.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".provium-check-")
	if err != nil {
		return plain(err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// lowSpace is when a cache has little room left, in bytes.
const lowSpace = 1 << 30

// CacheDir checks that images can be kept.
func CacheDir(h Host) Result {
	r := Result{Name: "cache", Found: h.Cache}
	dir := existing(h.Cache)
	if err := writable(dir); err != nil {
		r.Status = Failure
		r.Effect = fmt.Sprintf("%s is not writable (%v): initrds for guests cannot be built", dir, err)
		r.Remedy = "make it writable, or set HOME to a directory that is"
		return r
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		r.Status, r.Effect = Note, fmt.Sprintf("free space unknown: %v", err)
		return r
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	r.Effect = fmt.Sprintf("%.1f GiB free", float64(free)/(1<<30))
	if free < lowSpace {
		r.Status = Warning
		r.Remedy = "make room; `provium image clean` empties the cache of images"
	}
	return r
}

// existing returns the nearest directory that is there.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir
		}
		dir = up
	}
}

// defaultGuest is what a guest without options takes.
const defaultGuest = 512<<20 + sched.FileOverhead

// Pool checks how many guests fit.
func Pool(h Host) Result {
	r := Result{Name: "memory and CPUs"}
	b, err := h.Budget()
	switch {
	case err != nil:
		r.Status, r.Found = Warning, err.Error()
		r.Effect = "the pool that files share cannot be measured"
		r.Remedy = "give --mem and --cpus"
	case b.Memory < defaultGuest:
		r.Status, r.Found = Warning, b.String()
		r.Effect = "a guest of the default size, 512 MiB, does not fit"
		r.Remedy = "declare smaller guests (memory = \"256M\"), or allow more with --mem"
	default:
		r.Found = b.String()
		r.Effect = fmt.Sprintf("shared by the files that run at a time, room for %d guests of the default size",
			b.Memory/defaultGuest)
	}
	return r
}

// Privileges reports the user that guests run as.
func Privileges(h Host) Result {
	r := Result{Name: "privileges", Found: fmt.Sprintf("user %d", h.UID),
		Effect: "guests need no privileges on the host"}
	if h.UID == 0 {
		r.Found = "root"
		r.Effect = "guests need no privileges; QEMU is root, but without root's capabilities"
	}
	return r
}

// Pressure checks whether the kernel tells how busy the CPUs are.
func Pressure(h Host) Result {
	r := Result{Name: "cpu pressure"}
	text, err := fs.ReadFile(h.Root, "proc/pressure/cpu")
	if err != nil {
		r.Status = Note
		r.Found = fmt.Sprintf("/proc/pressure/cpu: %v", plain(err))
		r.Effect = "files start by how much the CPUs are used, not by how often something waits for them or for memory"
		r.Remedy = "boot the host with psi=1, where its kernel has PSI"
		return r
	}
	r.Found, _, _ = strings.Cut(strings.TrimSpace(string(text)), "\n")
	r.Effect = "files start while CPUs are left and little waits for them"
	return r
}

// KSM checks the merging of equal pages.
func KSM(h Host) Result {
	r := Result{Name: "page merging"}
	text, err := fs.ReadFile(h.Root, "sys/kernel/mm/ksm/run")
	switch state := strings.TrimSpace(string(text)); {
	case err != nil:
		r.Status = Note
		r.Found = "the kernel has no KSM"
		r.Effect = "equal pages of guests are not merged: more memory, no other difference"
	case state == "1":
		r.Found = "KSM is on"
		r.Effect = "equal pages of guests may be merged"
	default:
		r.Status = Note
		r.Found = "KSM is off"
		r.Effect = "equal pages of guests are not merged: more memory, no other difference"
		r.Remedy = "echo 1 | sudo tee /sys/kernel/mm/ksm/run"
	}
	return r
}

// Project checks the configuration.
func Project(h Host) Result {
	r := Result{Name: "configuration"}
	cfg, err := h.Config()
	var missing *config.ReadError
	switch {
	case errors.As(err, &missing) && errors.Is(err, fs.ErrNotExist):
		r.Status = Note
		r.Found = "no " + config.FileName + " here or in a directory above"
		r.Effect = "tests need a project"
		r.Remedy = "`provium init` makes one"
	case err != nil:
		r.Status = Failure
		r.Found = err.Error()
		r.Effect = "no test of this project can run"
		r.Remedy = "correct the file"
	default:
		r.Found = cfg.Path
		names := cfg.ProfileNames()
		r.Effect = fmt.Sprintf("%d profile(s)", len(names))
		if len(names) > 0 {
			r.Effect += ": " + strings.Join(names, ", ")
		} else {
			r.Status = Note
			r.Remedy = "a guest needs a profile: add `[profiles.host]`"
		}
	}
	return r
}
