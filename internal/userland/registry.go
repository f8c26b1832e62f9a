package userland

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"provium/internal/jsonerror"
)

// registryLimit is how long a registry may send nothing before it counts as away.
const registryLimit = 30 * time.Second

// configFile is the file of a cache entry with the Config of an image.
const configFile = "config.json"

// errSilent is the cause of an end by registryLimit.
type errSilent struct{ limit time.Duration }

func (e errSilent) Error() string {
	return fmt.Sprintf("the registry has sent nothing for %v", e.limit)
}

// ofRegistry returns the tree of an image in a registry. What a tag means is asked for each
// time; an image that was fetched before is not fetched again, and one that is named by its
// digest is not asked for either.
func (m *Maker) ofRegistry(ctx context.Context, u *Userland) (*tree, error) {
	ref, err := name.ParseReference(u.Source.Ref)
	if err != nil {
		return nil, fmt.Errorf("it is not the name of an image: %w", err)
	}
	limit := m.RegistryLimit
	if limit == 0 {
		limit = registryLimit
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(limit, func() { cancel(errSilent{limit}) })
	defer watch.Stop()
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"})}
	explain := func(err error) error {
		if cause := (errSilent{}); errors.As(context.Cause(ctx), &cause) {
			err = cause
		}
		return fmt.Errorf("registry %s: %w", ref.Context().RegistryStr(), err)
	}
	digest, pinned := ref.(name.Digest)
	if !pinned {
		found, err := remote.Get(ref, options...)
		if err != nil {
			return nil, fmt.Errorf("%w; an image that is named by its digest, `docker://%s@sha256:…`, needs no "+
				"registry once it is in the cache", explain(err), ref.Context().Name())
		}
		digest = ref.Context().Digest(found.Digest.String())
	}
	u.Digest = digest.DigestStr()
	hash, err := v1.NewHash(u.Digest)
	if err != nil {
		return nil, err
	}
	watch.Stop()
	dir, err := m.Cache.Make(ctx, KindArchive, hash.Hex, func(dir string) error {
		watch.Reset(limit)
		defer watch.Stop()
		img, err := remote.Image(digest, options...)
		if err != nil {
			return explain(err)
		}
		if err := fetch(ctx, img, dir, func() { watch.Reset(limit) }); err != nil {
			return explain(err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if u.Config, err = readConfig(filepath.Join(dir, configFile)); err != nil {
		return nil, err
	}
	return ofArchive(ctx, filepath.Join(dir, archiveFile))
}

// fetch writes an image and its configuration into a directory. It calls progress when
// something has come.
func fetch(ctx context.Context, img v1.Image, dir string, progress func()) error {
	c, err := ociConfig(img)
	if err != nil {
		return err
	}
	progress()
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, configFile), text, 0o644); err != nil {
		return err
	}
	return unpackOCI(ctx, img, filepath.Join(dir, archiveFile), progress)
}

// maxConfig is how long the configuration of an image may be, in bytes.
const maxConfig = 1 << 20

func readConfig(path string) (c Config, err error) {
	f, err := os.Open(path)
	if err != nil {
		return c, reason(err)
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxConfig)).Decode(&c); err != nil {
		return c, fmt.Errorf("%s: %w", path, jsonerror.Plain(err))
	}
	return c, nil
}

// reporting calls a function whenever something was read.
type reporting struct {
	io.Reader
	progress func()
}

func (r reporting) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.progress()
	}
	return n, err
}
