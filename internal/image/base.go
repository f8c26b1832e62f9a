package image

import (
	"fmt"
	"path"
	"strings"

	"provium/internal/image/cpio"
)

// baseDirs are the directories of the built-in initrd.
var baseDirs = [...]struct {
	name string
	perm uint32
}{
	{"bin", 0o755}, {"dev", 0o755}, {"etc", 0o755}, {"home", 0o755}, {"lib", 0o755},
	{"lib/modules", 0o755}, {"lib64", 0o755}, {"media", 0o755}, {"mnt", 0o755},
	{"opt", 0o755}, {"proc", 0o555}, {"root", 0o700}, {"run", 0o755}, {"sbin", 0o755},
	{"srv", 0o755}, {"sys", 0o555}, {"tmp", 0o1777}, {"usr", 0o755}, {"usr/bin", 0o755},
	{"usr/lib", 0o755}, {"usr/local", 0o755}, {"usr/local/bin", 0o755},
	{"usr/local/sbin", 0o755}, {"usr/sbin", 0o755}, {"usr/share", 0o755},
	{"var", 0o755}, {"var/cache", 0o755}, {"var/lib", 0o755}, {"var/log", 0o755},
	{"var/spool", 0o755}, {"var/tmp", 0o1777},
}

var baseFiles = [...]struct{ name, content string }{
	{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\n" +
		"daemon:x:1:1:daemon:/usr/sbin:/bin/false\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"},
	{"etc/group", "root:x:0:\ndaemon:x:1:\ntty:x:5:\ndisk:x:6:\nusers:x:100:\nnogroup:x:65534:\n"},
	{"etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
	{"etc/hostname", "provium\n"},
	{"etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n" +
		"networks: files\nprotocols: files\nservices: files\n"},
	{"etc/profile", "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n" +
		"export HOME=\"${HOME:-/root}\" TERM=\"${TERM:-linux}\" LANG=C.UTF-8\nPS1='\\u@\\h:\\w\\$ '\numask 022\n"},
	{"etc/shells", "/bin/sh\n"},
	{"etc/fstab", ""},
	{"etc/resolv.conf", ""},
}

const (
	// directDD is the command that the agent's file carries out, since busybox
	// cannot read and write disks directly.
	directDD = "bin/dd"
	// busyboxDD is busybox's own under the name that the build gives it, so that
	// its shell does not prefer it.
	busyboxDD = "bin/de"
)

// baseItems returns the built-in initrd: busybox with all its applets and the few
// files that programs expect. It has no /init: the agent is a minimal one.
func (s *Store) baseItems() ([]item, error) {
	busybox, err := s.readPayload(payloadBusybox)
	if err != nil {
		return nil, err
	}
	applets, err := s.applets()
	if err != nil {
		return nil, err
	}
	return builtinItems(busybox, applets)
}

// builtinItems returns the built-in initrd with a busybox and its applets.
func builtinItems(busybox []byte, applets []string) ([]item, error) {
	var items []item
	// The root of the file system is a tmpfs, which anybody may write to at first.
	items = append(items, dirItem(".", 0o755))
	known := map[string]bool{}
	for _, d := range baseDirs {
		items = append(items, dirItem(d.name, d.perm))
		known[d.name] = true
	}
	// The kernel opens the console before anything mounts /dev.
	node := func(name string, perm, major, minor uint32) item {
		return item{Entry: cpio.Entry{Name: name, Mode: cpio.TypeChar | perm, Major: major, Minor: minor}}
	}
	items = append(items, node("dev/console", 0o600, 5, 1), node("dev/null", 0o666, 1, 3),
		fileItem("bin/busybox", 0o755, busybox), linkItem("var/run", "/run"), linkItem("etc/mtab", "/proc/self/mounts"))
	known["bin/busybox"] = true
	for _, a := range applets {
		dir := path.Dir(a)
		switch {
		case known[a] || a == guestAgent:
			continue
		case !known[dir]:
			return nil, fmt.Errorf("%s: applet %q stands in an unknown directory", payloadApplets, a)
		}
		known[a] = true
		target := "busybox"
		if a == directDD || a == busyboxDD {
			known[directDD] = true
			items = append(items, linkItem(directDD, ".."+agentPath))
			continue
		}
		if dir != "bin" {
			target = strings.Repeat("../", strings.Count(a, "/")) + "bin/busybox"
		}
		items = append(items, linkItem(a, target))
	}
	for _, f := range baseFiles {
		items = append(items, fileItem(f.name, 0o644, []byte(f.content)))
	}
	return items, nil
}

// listItems makes the listing of an archive that is not written yet.
func listItems(items []item) (*listing, error) {
	l := newListing()
	for _, it := range items {
		target := ""
		if it.Type() == cpio.TypeSymlink {
			target = string(it.data)
		}
		e := it.Entry
		if err := l.add(&e, target); err != nil {
			return nil, err
		}
	}
	return l, nil
}
