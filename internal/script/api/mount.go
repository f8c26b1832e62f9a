package api

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// maxMountData is how many bytes of options the kernel takes for a file system.
const maxMountData = 4095

// mountWord is what a word of the options does to the kernel's flags.
type mountWord struct{ set, clear uint64 }

// mountWords are the words that are flags, as mount(8) has them. All others are the file
// system's.
func mountWords() map[string]mountWord {
	words := map[string]mountWord{"defaults": {}}
	for name, flag := range map[string]uint64{"bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC,
		"move": unix.MS_MOVE, "remount": unix.MS_REMOUNT,
		"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
		"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
		"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
		"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
		"nosymfollow": unix.MS_NOSYMFOLLOW, "silent": unix.MS_SILENT} {
		words[name] = mountWord{set: flag}
	}
	for _, pair := range []struct {
		on, off string
		flag    uint64
	}{{"ro", "rw", unix.MS_RDONLY}, {"nosuid", "suid", unix.MS_NOSUID}, {"nodev", "dev", unix.MS_NODEV},
		{"noexec", "exec", unix.MS_NOEXEC}, {"sync", "async", unix.MS_SYNCHRONOUS},
		{"dirsync", "", unix.MS_DIRSYNC}, {"mand", "nomand", unix.MS_MANDLOCK},
		{"noatime", "atime", unix.MS_NOATIME}, {"nodiratime", "diratime", unix.MS_NODIRATIME},
		{"relatime", "norelatime", unix.MS_RELATIME}, {"strictatime", "nostrictatime", unix.MS_STRICTATIME},
		{"lazytime", "nolazytime", unix.MS_LAZYTIME}, {"iversion", "noiversion", unix.MS_I_VERSION}} {
		words[pair.on] = mountWord{set: pair.flag}
		if pair.off != "" {
			words[pair.off] = mountWord{clear: pair.flag}
		}
	}
	return words
}

// parseMountOptions takes the kernel's flags out of options. The rest is for the file
// system.
func parseMountOptions(options string) (flags uint64, data string) {
	known := mountWords()
	var rest []string
	for word := range strings.SplitSeq(options, ",") {
		if w, ok := known[word]; ok {
			flags = flags&^w.clear | w.set
		} else if word != "" {
			rest = append(rest, word)
		}
	}
	return flags, strings.Join(rest, ",")
}

// guestMount is mount(source, target, fstype, opts).
func guestMount(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	calls, o, err := mountArgs(a)
	if err != nil {
		return nil, err
	}
	limit, err := fileLimit(o)
	if err != nil {
		return nil, err
	}
	actor := by.AsActor()
	return nil, limitedOp(x, a, by.VM(), limit, func(ctx context.Context) error {
		for i, call := range calls {
			if _, err := actor.FileCall(ctx, call); err != nil {
				if i > 0 { // a bind mount without its flags
					undo := guest.UmountCall(a.Value(2).(string), unix.MNT_DETACH)
					_, failed := actor.FileCall(context.WithoutCancel(ctx), undo)
					err = errors.Join(err, failed)
				}
				return err
			}
		}
		return nil
	})
}

// mountArgs reads the arguments of mount. It returns two calls for a bind mount with
// flags: the kernel ignores them in the one that makes it.
func mountArgs(a value.Args) (calls []guest.FileCall, o value.Options, err error) {
	source, err := a.Path(1, "source")
	if err != nil {
		return nil, o, err
	}
	target, err := a.Path(2, "target")
	if err != nil {
		return nil, o, err
	}
	fstype := ""
	if a.Value(3) != nil {
		if fstype, err = a.Path(3, "fstype"); err != nil {
			return nil, o, err
		}
	}
	if o, err = a.Options(4); err != nil {
		return nil, o, err
	}
	options, err := o.Str("options", "")
	switch {
	case err != nil:
		return nil, o, err
	case strings.ContainsRune(options, 0):
		return nil, o, o.Errorf("options", "holds a NUL byte: %s", value.Quote(value.Clip(options, 80)))
	}
	flags, data := parseMountOptions(options)
	if len(data) > maxMountData {
		return nil, o, o.Errorf("options", "has %d bytes for the file system, at most %d are possible", len(data),
			maxMountData)
	}
	if p := flags & mountPropagation; p != 0 && (flags&^(p|unix.MS_REC|unix.MS_SILENT) != 0 || fstype != "" ||
		p&(p-1) != 0) {
		return nil, o, o.Errorf("options", "`%s`: shared, private, slave and unbindable need a mount call that does "+
			"nothing else", value.Clip(value.Printable(options), 80))
	}
	if fstype == "" && flags&(unix.MS_BIND|unix.MS_MOVE|unix.MS_REMOUNT|mountPropagation) == 0 {
		return nil, o, a.Errorf("argument 3 (fstype) is missing; only bind, move, remount and propagation work without")
	}
	calls = []guest.FileCall{guest.MountCall(source, target, fstype, flags, data)}
	const bind = unix.MS_BIND | unix.MS_REC
	if flags&unix.MS_BIND != 0 && flags&unix.MS_REMOUNT == 0 && flags&^bind != 0 {
		calls = []guest.FileCall{guest.MountCall(source, target, fstype, flags&bind, data),
			guest.MountCall(source, target, fstype, flags&^unix.MS_REC|unix.MS_REMOUNT, data)}
	}
	return calls, o, nil
}

const mountPropagation = unix.MS_SHARED | unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_UNBINDABLE
