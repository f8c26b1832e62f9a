package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"provium/internal/arch"
	"provium/internal/image/apt"
	"provium/internal/image/decompress"
)

// payloadArch is the architecture whose agent and busybox the payload has as they are. Of
// others it has the agent, compressed, and busybox is downloaded.
var payloadArch = arch.AMD64

// maxAgent bounds an agent, in bytes.
const maxAgent = 64 << 20

// agentOf returns the agent of another architecture than the payload's.
func (s *Store) agentOf(a *arch.Arch) (*builtin, error) {
	return s.foreignBuiltin("agent "+a.Name, func() ([]item, error) {
		packed, err := s.readPayload(payloadAgent + "-" + a.Name + ".zst")
		if err != nil {
			return nil, fmt.Errorf("guest agent for %s missing: build with \"make build\"", a)
		}
		z, err := decompress.NewReader(decompress.Zstd, decompress.NewSource(bytes.NewReader(packed)))
		if err != nil {
			return nil, fmt.Errorf("guest agent for %s: %w", a, err)
		}
		defer z.Close()
		agent, err := io.ReadAll(io.LimitReader(z, maxAgent))
		if err != nil {
			return nil, fmt.Errorf("guest agent for %s: %w", a, err)
		}
		return agentItems(agent), nil
	})
}

// foreignBuiltin returns what make makes, which is made once for a key.
func (s *Store) foreignBuiltin(key string, make func() ([]item, error)) (*builtin, error) {
	once, _ := s.foreign.LoadOrStore(key, builtinOf(make))
	b, err := once.(func() (*builtin, error))()
	if err != nil {
		s.foreign.Delete(key) // it may be there the next time
	}
	return b, err
}

// baseFor returns the built-in initrd for an input.
func (s *Store) baseFor(in initrdInput) (*builtin, error) {
	if in.busybox == "" {
		return s.base()
	}
	return s.foreignBuiltin("base "+in.busybox, func() ([]item, error) {
		busybox, err := os.ReadFile(in.busybox)
		if err != nil {
			return nil, err
		}
		applets, err := s.applets()
		if err != nil {
			return nil, err
		}
		return builtinItems(adaptBusybox(busybox, applets))
	})
}

// adaptBusybox does to a busybox what the build does to that of the payload: its dd gives way
// to ours. It returns the applets of the list that this busybox has.
func adaptBusybox(busybox []byte, applets []string) ([]byte, []string) {
	busybox = bytes.Replace(busybox, []byte("\x00dc\x00dd\x00dea"), []byte("\x00dc\x00de\x00dea"), 1)
	var has []string
	for _, a := range applets {
		if bytes.Contains(busybox, []byte("\x00"+filepath.Base(a)+"\x00")) {
			has = append(has, a)
		}
	}
	return busybox, has
}

// busyboxOf returns the path of an unpacked busybox of another architecture. It is downloaded
// if no package in the cache has it.
func (s *Store) busyboxOf(ctx context.Context, a *arch.Arch) (string, error) {
	for fetched := false; ; fetched = true {
		roots, err := s.cachedPackages(ctx, a)
		if err != nil {
			return "", err
		}
		for _, root := range roots {
			for _, name := range [...]string{"bin/busybox", "usr/bin/busybox"} {
				file := filepath.Join(root, name)
				if checkReadable(file) == nil {
					return file, s.cache.Unchanged(filepath.Dir(root), file)
				}
			}
		}
		if fetched {
			return "", fmt.Errorf("the package %s of %s has no busybox", apt.Busybox, a)
		}
		none := func() (bool, error) { return false, nil }
		if err := s.download(ctx, apt.Want{Arch: a, What: apt.Busybox}, none); err != nil {
			return "", fmt.Errorf("no busybox for %s: %w; give an initrd of that architecture, or agent and initrd of "+
				"your own", a, err)
		}
	}
}

// packageMark is how the names of entries with packages of other architectures than the host's
// begin.
func packageMark(a *arch.Arch) string {
	if a == arch.Host() {
		return ""
	}
	return a.Name + "-"
}

// isPackageOf reports whether an entry of kindKernel has packages of an architecture, for whoever does not ask for a
// release.
func isPackageOf(name string, a *arch.Arch) bool {
	if strings.Contains(name, releaseMark) {
		return false
	}
	if mark := packageMark(a); mark != "" {
		return strings.HasPrefix(name, mark)
	}
	for _, other := range arch.All() {
		if other != a && strings.HasPrefix(name, packageMark(other)) {
			return false
		}
	}
	return true
}
