package userland

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"provium/internal/image/cache"
)

// refAnnotation names an image of a layout (OCI image layout specification,
// org.opencontainers.image.ref.name).
const refAnnotation = "org.opencontainers.image.ref.name"

// openOCI returns the image of a layout that a source names.
func openOCI(s Source) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(s.Path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Path, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("%s is not an OCI layout: its index.json is damaged: %w", s.Path, err)
	}
	var names []string
	var found []v1.Descriptor
	for _, d := range manifest.Manifests {
		name := d.Annotations[refAnnotation]
		if !isOurs(d.Platform) {
			name += fmt.Sprintf(" (%s/%s)", d.Platform.OS, d.Platform.Architecture)
		} else if s.Ref == "" || s.Ref == name || s.Ref == d.Digest.String() {
			found = append(found, d)
		}
		names = append(names, "`"+name+"`")
	}
	switch {
	case len(names) == 0:
		return nil, fmt.Errorf("%s has no image", s.Path)
	case len(found) == 0 && s.Ref == "":
		return nil, fmt.Errorf("%s has no image for linux/amd64; it has %s", s.Path, strings.Join(names, ", "))
	case len(found) == 0:
		return nil, fmt.Errorf("%s has no image `%s` for linux/amd64; it has %s", s.Path, s.Ref,
			strings.Join(names, ", "))
	case len(found) > 1:
		return nil, fmt.Errorf("%s has %d images, %s: name one, as `oci:%s:NAME`", s.Path, len(found),
			strings.Join(names, ", "), s.Path)
	}
	img, err := index.Image(found[0].Digest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Path, err)
	}
	return img, nil
}

// unpackOCI writes the layers of an image, one over the other, as one tar file. Each layer is
// verified while it is read. It calls progress when something was read.
func unpackOCI(ctx context.Context, img v1.Image, to string, progress func()) (err error) {
	w := &wholeImage{Image: img}
	in := mutate.Extract(w)
	defer func() { err = errors.Join(err, in.Close()) }()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, reporting{cache.NewReader(ctx, in), progress})
	if w.err != nil { // the extraction has come to its end: nobody writes it any more
		err = w.err
	}
	return errors.Join(err, f.Close())
}

// wholeImage is an image whose layers are read to their ends, where it shows whether they have
// the right digest. An extraction stops at the end of the archive in them.
type wholeImage struct {
	v1.Image
	err error // of a layer
}

// Layers implements v1.Image.
func (w *wholeImage) Layers() ([]v1.Layer, error) {
	list, err := w.Image.Layers()
	for i, l := range list {
		if list[i], err = partial.CompressedToLayer(wholeLayer{l, w}); err != nil {
			return nil, err
		}
	}
	return list, err
}

// wholeLayer is a layer of a wholeImage.
type wholeLayer struct {
	v1.Layer
	image *wholeImage
}

// Compressed implements partial.CompressedLayer.
func (l wholeLayer) Compressed() (io.ReadCloser, error) {
	digest, err := l.Digest()
	if err != nil {
		return nil, err
	}
	r, err := l.Layer.Compressed()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("layer %s is not in the layout", digest)
	}
	if err != nil {
		return nil, err
	}
	return &wholeReader{r, sha256.New(), digest, l.image}, nil
}

// wholeReader compares the digest of a layer when it is closed.
type wholeReader struct {
	io.ReadCloser
	sum    hash.Hash
	digest v1.Hash
	image  *wholeImage
}

// Read implements io.Reader.
func (r *wholeReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.sum.Write(p[:n])
	return n, err
}

// Close reads the rest of the layer, and closes it.
func (r *wholeReader) Close() error {
	_, err := io.Copy(r.sum, r.ReadCloser)
	if got := hex.EncodeToString(r.sum.Sum(nil)); err == nil && got != r.digest.Hex {
		err = fmt.Errorf("its contents have the digest sha256:%s", got)
	}
	if err != nil && r.image.err == nil {
		r.image.err = fmt.Errorf("layer %s is damaged: %w", r.digest, err)
	}
	return r.ReadCloser.Close()
}

// ociConfig is what an image says about its commands.
func ociConfig(img v1.Image) (Config, error) {
	file, err := img.ConfigFile()
	if err != nil {
		return Config{}, err
	}
	if a := file.Architecture; a != "" && a != "amd64" {
		return Config{}, fmt.Errorf("the image is for %s, and guests are x86-64 (amd64)", a)
	}
	c := file.Config
	return Config{Env: c.Env, WorkDir: c.WorkingDir, User: c.User,
		Entrypoint: slices.Concat(c.Entrypoint, c.Cmd)}, nil
}

// isOurs reports whether guests can run what is for a platform; nil is one that is not said.
func isOurs(p *v1.Platform) bool {
	return p == nil || (p.OS == "" || p.OS == "linux") && (p.Architecture == "" || p.Architecture == "amd64")
}
