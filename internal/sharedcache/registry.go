package sharedcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// registry is a repository, with the tags of a cache behind a prefix.
type registry struct {
	repo   name.Repository
	prefix string
	puller *remote.Puller

	options []remote.Option
	mu      sync.Mutex
	pusher  *remote.Pusher // remembers what it has sent; guarded by mu
}

const (
	pushTries = 4    // how often an image is sent to a registry that has lost a part of it
	maxPages  = 1000 // of a list of tags
)

// newRegistry returns the tags of a repository that begin with a prefix.
func newRegistry(repo name.Repository, prefix string, silence time.Duration) (*registry, error) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = parallelBlobs
	options := []remote.Option{
		remote.WithAuthFromKeychain(accounts{}), remote.WithTransport(&watched{base, silence}),
		remote.WithJobs(parallelBlobs),
		// What fails is left out: the run waits for it.
		remote.WithRetryBackoff(remote.Backoff{Duration: 100 * time.Millisecond, Factor: 3, Steps: 2}),
	}
	puller, err := remote.NewPuller(options...)
	if err != nil {
		return nil, err
	}
	pusher, err := remote.NewPusher(options...)
	return &registry{repo: repo, prefix: prefix, puller: puller, options: options, pusher: pusher}, err
}

// accounts are those of docker's configuration.
type accounts struct{}

// Resolve implements authn.Keychain.
func (accounts) Resolve(of authn.Resource) (authn.Authenticator, error) {
	a, err := authn.DefaultKeychain.Resolve(of)
	if err != nil {
		return nil, &transportError{fmt.Sprintf("docker's configuration cannot be used: %v; mend it, or set "+
			"DOCKER_CONFIG to a directory with another one", err)}
	}
	return a, nil
}

func (r *registry) tags(ctx context.Context) ([]string, error) {
	pages, err := r.puller.Lister(ctx, r.repo)
	if isMissing(err) { // nothing was pushed yet
		return nil, nil
	}
	var out []string
	for n := 0; err == nil && pages.HasNext(); n++ {
		if n == maxPages {
			return nil, r.fail(errors.New("its list of tags does not end"))
		}
		var page *remote.Tags
		if page, err = pages.Next(ctx); err != nil {
			break
		}
		for _, t := range page.Tags {
			if rest, ok := strings.CutPrefix(t, r.prefix); ok {
				out = append(out, rest)
			}
		}
	}
	if err != nil {
		return nil, r.fail(err)
	}
	return out, nil
}

func (r *registry) manifest(ctx context.Context, tag string) ([]byte, error) {
	return r.get(ctx, r.repo.Tag(r.prefix+tag))
}

func (r *registry) manifestOf(ctx context.Context, digest v1.Hash) ([]byte, error) {
	return r.get(ctx, r.repo.Digest(digest.String()))
}

// get returns a manifest.
func (r *registry) get(ctx context.Context, ref name.Reference) ([]byte, error) {
	d, err := r.puller.Get(ctx, ref)
	if isMissing(err) {
		return nil, errMissing
	}
	if err != nil {
		return nil, r.fail(err)
	}
	return d.Manifest, nil
}

func (r *registry) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	l, err := r.puller.Layer(ctx, r.repo.Digest(d.Digest.String()))
	if err != nil {
		return nil, r.fail(err)
	}
	body, err := l.Compressed()
	if err != nil {
		return nil, r.fail(err)
	}
	return &blobBody{body, r}, nil
}

// blobBody says whose error it is that a blob cannot be read.
type blobBody struct {
	io.ReadCloser
	from *registry
}

// Read implements io.Reader.
func (b *blobBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && strings.HasPrefix(err.Error(), "error verifying ") {
		return n, io.EOF // who reads verifies, too, and has better words
	}
	if err != nil && err != io.EOF {
		err = b.from.fail(err)
	}
	return n, err
}

func (r *registry) put(ctx context.Context, tag string, img v1.Image) error {
	for try := 1; ; try++ {
		r.mu.Lock()
		pusher := r.pusher
		r.mu.Unlock()
		err := pusher.Push(ctx, r.repo.Tag(r.prefix+tag), img)
		if err == nil {
			return nil
		}
		if try == pushTries || !isLost(err) {
			return r.fail(err)
		}
		if err := r.forget(pusher); err != nil {
			return r.fail(err)
		}
	}
}

// forget has the next push ask the registry what it has.
func (r *registry) forget(pusher *remote.Pusher) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pusher != pusher {
		return nil // somebody else has done so
	}
	var err error
	r.pusher, err = remote.NewPusher(r.options...)
	return err
}

// isLost reports whether a registry has lost a part of what was sent: docker-registry 2.8 does
// while somebody else sends the same part.
func isLost(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && slices.ContainsFunc(e.Errors, func(d transport.Diagnostic) bool {
		switch d.Code {
		case transport.DigestInvalidErrorCode, transport.ManifestBlobUnknownErrorCode,
			transport.BlobUploadUnknownErrorCode, transport.BlobUploadInvalidErrorCode:
			return true
		}
		return false
	})
}
