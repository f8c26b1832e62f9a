package userland

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"provium/internal/image/cache"
	"provium/internal/image/decompress"
	"provium/internal/inputerror"
)

// Kinds of entries of the cache.
const (
	KindIndex   = "userlands" // indexes, by what they describe
	KindArchive = "archives"  // unpacked archives, by what they were packed as
)

// Names of the files in these entries.
const (
	indexFile   = "index"
	archiveFile = "tar"
)

// Userland is a root file system that guests can have.
type Userland struct {
	Source Source
	// Index is the file that Open opens.
	Index string
	// Key is a digest of all that the file system depends on.
	Key string
	// HasInit is set if there is a /sbin/init.
	HasInit bool
	// Filesystem is what an image of a disk is mounted as, such as "ext4"; "" for EROFS. Only the guest sees whether
	// that has an init.
	Filesystem string
	// Partition and Size are the number of that file system's partition, 0 for the whole image, and its bytes.
	Partition int
	Size      int64
	// Skipped are the files of the host that were left out: others than their owner, or
	// the user, may not read them.
	Skipped []string
	// Digest is that of an image of a registry, "sha256:…": what its name meant.
	Digest string
	Config Config
}

// Config is what an OCI image says about its commands.
type Config struct {
	Env        []string
	WorkDir    string
	User       string // a name or number, with a group after a colon or without
	Entrypoint []string
}

// Maker makes userlands. Its methods are safe for concurrent use.
type Maker struct {
	Cache *cache.Cache // with both kinds
	// HostRoot is the root directory of the machine whose programs Host is; "" is "/".
	HostRoot string
	// Runner runs the program that makes Debian systems. Nil leaves what is in the cache.
	Runner Runner
	// Notice is called with a line of text before what takes long; it may be nil.
	Notice func(text string)

	// RegistryLimit is how long a registry may send nothing; 0 is a default.
	RegistryLimit time.Duration
	// Now is the time for the age of Debian systems; nil is time.Now.
	Now func() time.Time
}

// Make looks at the source and returns its userland. Nothing is written if that is in the
// cache as the source is now.
func (m *Maker) Make(ctx context.Context, s Source) (*Userland, error) {
	u, err := m.make(ctx, s)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("userland `%s`: %w", s, inputerror.Plain(err))
	}
	return u, nil
}

func (m *Maker) make(ctx context.Context, s Source) (*Userland, error) {
	s, err := s.resolve()
	if err != nil {
		return nil, err
	}
	u := &Userland{Source: s}
	if s.Kind == Disk {
		return u, m.ofDisk(ctx, u)
	}
	t, err := m.tree(ctx, u)
	if err != nil {
		return nil, err
	}
	if err := t.checkPrograms(); err != nil {
		return nil, err
	}
	u.Key, u.Skipped = t.key(), t.skipped
	if init, err := t.lookup(initPath); err == nil && !init.IsDir() {
		u.HasInit = s.Kind != Host
	}
	dir, err := m.Cache.Make(ctx, KindIndex, u.Key, func(dir string) error {
		return writeIndex(filepath.Join(dir, indexFile), t)
	})
	u.Index = filepath.Join(dir, indexFile)
	return u, err
}

// tree returns the tree of the source.
func (m *Maker) tree(ctx context.Context, u *Userland) (*tree, error) {
	s := u.Source
	switch s.Kind {
	case Host:
		root := m.HostRoot
		if root == "" {
			root = "/"
		}
		return ofHost(ctx, root)
	case Directory:
		return ofDirectory(ctx, s.Path)
	case Archive:
		file, err := m.unpacked(ctx, s.Path)
		if err != nil {
			return nil, err
		}
		return ofArchive(ctx, file)
	case OCI:
		return m.ofOCI(ctx, u)
	case Registry:
		return m.ofRegistry(ctx, u)
	case Debian:
		return m.ofDebian(ctx, s)
	}
	return nil, fmt.Errorf("there is no file system to make")
}

// ofDirectory returns the tree of a directory, which must be readable as a whole.
func ofDirectory(ctx context.Context, dir string) (*tree, error) {
	t := newTree()
	look := newLister(false)
	defer look.end()
	root := newDirectory(dir, inode{})
	look.push(root)
	if err := newScanner(t, look).add(ctx, t.root, root); err != nil {
		return nil, err
	}
	if len(t.skipped) > 0 {
		return nil, fmt.Errorf("these files cannot be read by this user: %s", listed(t.skipped))
	}
	if len(t.root.Names()) == 0 {
		return nil, errors.New("the directory is empty")
	}
	return t, nil
}

// unpacked returns an archive without its compression.
func (m *Maker) unpacked(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", reason(err)
	}
	defer f.Close()
	head := make([]byte, decompress.MagicLen)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return "", reason(err)
	}
	format := decompress.Detect(head[:n])
	if format == decompress.None {
		return path, nil
	}
	key, err := m.Cache.FileDigest(ctx, path)
	if err != nil {
		return "", reason(err)
	}
	dir, err := m.Cache.Make(ctx, KindArchive, key, func(dir string) error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return expand(ctx, f, format, filepath.Join(dir, archiveFile))
	})
	return filepath.Join(dir, archiveFile), err
}

// expand writes a file without its compression.
func expand(ctx context.Context, in io.Reader, format decompress.Format, to string) error {
	z, err := decompress.NewReader(format, decompress.NewSource(cache.NewReader(ctx, in)))
	if err != nil {
		return err
	}
	defer z.Close()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, z)
	return errors.Join(err, f.Close())
}

// ofOCI returns the tree of an image, and sets the configuration of u.
func (m *Maker) ofOCI(ctx context.Context, u *Userland) (*tree, error) {
	img, err := openOCI(u.Source)
	if err != nil {
		return nil, err
	}
	if u.Config, err = ociConfig(img); err != nil {
		return nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	dir, err := m.Cache.Make(ctx, KindArchive, digest.Hex, func(dir string) error {
		return unpackOCI(ctx, img, filepath.Join(dir, archiveFile), func() {})
	})
	if err != nil {
		return nil, err
	}
	return ofArchive(ctx, filepath.Join(dir, archiveFile))
}
