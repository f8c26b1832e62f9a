package image

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"provium/internal/userland"
)

// userlandModules are what a guest needs for a userland.
func userlandModules(u *userland.Userland) []string {
	return []string{"virtio_blk", cmp.Or(u.Filesystem, "erofs"), "overlay"}
}

// UserlandDisk is the id, and the serial number in the guest, of the disk with the userland.
const UserlandDisk = "userland"

// guestUserland is the file that says in the initrd that there is a userland: the disk's
// serial number, and "init" if its /sbin/init is the guest's; then what commands have there
// unless the host says something else, a word and a quoted text in each line.
const guestUserland = guestDir + "/userland"

// madeUserland is a userland that is being made, or was.
type madeUserland struct {
	once sync.Once
	u    *userland.Userland
	err  error
}

// HasUserland reports whether the profile has a root file system beside the initrd.
func (s *Spec) HasUserland() bool {
	return s.Userland.Kind != "" && s.Userland.Kind != userland.Busybox
}

// userland returns the root file system of a profile, nil if that is its initrd. Each source
// is looked at once: all guests of a process have the same.
func (s *Store) userland(ctx context.Context, spec Spec) (*userland.Userland, error) {
	switch {
	case !spec.HasUserland():
		return nil, nil
	case spec.Made != nil:
		return spec.Made, nil
	case spec.NoAgent:
		return nil, errors.New("userland needs the agent in the initrd, and inject_agent is false")
	case spec.Initrd != "":
		return nil, errors.New("it has both initrd and userland; a userland comes with an initrd of its own")
	}
	return s.MakeUserland(ctx, spec.Userland)
}

// retryRemote is how long what failed to come over the network is not tried again.
const retryRemote = 10 * time.Second

// MakeUserland makes the userland of a source, or returns it if it was made before.
func (s *Store) MakeUserland(ctx context.Context, from userland.Source) (*userland.Userland, error) {
	value, _ := s.userlands.LoadOrStore(from, &madeUserland{})
	m := value.(*madeUserland)
	m.once.Do(func() {
		maker := &userland.Maker{Cache: s.cache, HostRoot: s.cfg.HostRoot, Notice: s.cfg.Notice}
		if s.cfg.Runner != nil {
			maker.Runner = s.cfg.Runner
		}
		m.u, m.err = maker.Make(ctx, from)
		switch {
		case m.err == nil:
		case from.IsRemote() && ctx.Err() == nil: // all guests of a test would wait for the same
			time.AfterFunc(retryRemote, func() { s.userlands.CompareAndDelete(from, value) })
		default:
			s.userlands.Delete(from) // it may be there the next time
		}
	})
	return m.u, m.err
}

// userlandItems are what the initrd says about a userland.
func userlandItems(u *userland.Userland) []item {
	if u == nil {
		return nil
	}
	text := UserlandDisk
	if u.HasInit {
		text += " init"
	}
	lines := []string{text}
	add := func(word, value string) {
		if value != "" {
			lines = append(lines, word+" "+strconv.Quote(value))
		}
	}
	for _, kv := range u.Config.Env {
		add("env", kv)
	}
	add("filesystem", u.Filesystem)
	add("workdir", u.Config.WorkDir)
	user, _, _ := strings.Cut(u.Config.User, ":") // a group is that of the account
	add("user", user)
	return []item{fileItem(guestUserland, 0o644, []byte(strings.Join(lines, "\n")+"\n"))}
}
