package sharedcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A document is one small file as an OCI artifact of its own, which is found again by its digest:
// an image whose only layer is the file.

// registryScheme and layoutScheme begin the references of documents. Others are paths of files.
const (
	registryScheme = "docker://"
	layoutScheme   = "oci:"
)

// IsDocument reports whether a text is a reference to a document rather than the path of a file.
func IsDocument(text string) bool {
	return strings.HasPrefix(text, registryScheme) || strings.HasPrefix(text, layoutScheme)
}

// PutDocument stores a file under ref, `docker://HOST/NAME[:TAG]` or `oci:DIR[:TAG]`, and returns
// the reference that names it by its digest. mediaType says what it is. Relative paths are of dir;
// silence is as for Open.
func PutDocument(ctx context.Context, ref, dir, mediaType string, text []byte, silence time.Duration) (string, error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("`%s`: %w", ref, err) }
	at, base, tag, err := openDocument(ref, dir, silence)
	if err != nil {
		return fail(err)
	}
	if strings.Contains(tag, "@") {
		return fail(errors.New("it has a digest, which what is stored gets: give a tag"))
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.AppendLayers(img, static.NewLayer(text, types.MediaType(mediaType)))
	if err != nil {
		return fail(err)
	}
	digest, err := img.Digest()
	if err != nil {
		return fail(err)
	}
	if err := at.put(ctx, tag, img); err != nil {
		return fail(err)
	}
	return base + "@" + digest.String(), nil
}

// GetDocument returns the file that ref names by its digest: `docker://HOST/NAME@sha256:HEX` or
// `oci:DIR@sha256:HEX`. It has at most limit bytes and the media type, and is what the digest says.
func GetDocument(ctx context.Context, ref, dir, mediaType string, limit int64, silence time.Duration) ([]byte, error) {
	text, err := getDocument(ctx, ref, dir, mediaType, limit, silence)
	if err != nil {
		return nil, fmt.Errorf("`%s`: %w", ref, err)
	}
	return text, nil
}

func getDocument(ctx context.Context, ref, dir, mediaType string, limit int64, silence time.Duration) ([]byte, error) {
	at, _, tag, err := openDocument(ref, dir, silence)
	if err != nil {
		return nil, err
	}
	digest, ok := strings.CutPrefix(tag, "@")
	hash, err := v1.NewHash(digest)
	if err != nil || !ok {
		return nil, errors.New("expected a digest behind the name, `@sha256:` and 64 digits from 0 to f")
	}
	manifest, err := at.manifestOf(ctx, hash)
	if err != nil {
		return nil, err
	}
	m, err := v1.ParseManifest(bytes.NewReader(manifest))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if len(m.Layers) != 1 || string(m.Layers[0].MediaType) != mediaType {
		return nil, fmt.Errorf("it is something else than `%s`", mediaType)
	}
	body, err := at.blob(ctx, m.Layers[0])
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return readWhole(body, m.Layers[0], limit)
}

// openDocument splits a reference into its place, the place's name, and the tag, or the digest
// with `@` before it.
func openDocument(ref, dir string, silence time.Duration) (at place, base, tag string, err error) {
	if silence == 0 {
		silence = DefaultSilence
	}
	if path, ok := strings.CutPrefix(ref, layoutScheme); ok {
		path, tag = splitTag(path)
		if err := checkLayoutPath(path); err != nil {
			return nil, "", "", err
		}
		base = layoutScheme + path
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		return &layoutDir{dir: filepath.Clean(path)}, base, tag, nil
	}
	r, err := parseName(strings.TrimPrefix(ref, registryScheme))
	if err != nil {
		return nil, "", "", err
	}
	if tag = r.Identifier(); strings.Contains(tag, ":") {
		tag = "@" + tag
	}
	at, err = newRegistry(r.Context(), "", silence)
	return at, registryScheme + r.Context().Name(), tag, err
}

// splitTag splits the text behind `oci:`: a directory, and `:TAG` or `@DIGEST`.
func splitTag(text string) (dir, tag string) {
	if dir, digest, ok := strings.Cut(text, "@"); ok {
		return dir, "@" + digest
	}
	slash := strings.LastIndexByte(text, '/')
	if colon := strings.LastIndexByte(text, ':'); colon > slash {
		return text[:colon], text[colon+1:]
	}
	return text, "latest"
}
