package userland

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

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
		return nil, fmt.Errorf("%s: %w", s.Path, err)
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
// verified while it is read.
func unpackOCI(ctx context.Context, img v1.Image, to string) (err error) {
	in := mutate.Extract(img)
	defer func() { err = errors.Join(err, in.Close()) }()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, cache.NewReader(ctx, in))
	return errors.Join(err, f.Close())
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
	return Config{Env: c.Env, WorkDir: c.WorkingDir, Entrypoint: slices.Concat(c.Entrypoint, c.Cmd)}, nil
}

// isOurs reports whether guests can run what is for a platform; nil is one that is not said.
func isOurs(p *v1.Platform) bool {
	return p == nil || (p.OS == "" || p.OS == "linux") && (p.Architecture == "" || p.Architecture == "amd64")
}
