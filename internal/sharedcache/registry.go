package sharedcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

// pushTries is how often an image is sent to a registry that has lost a part of it.
const pushTries = 4

// newRegistry returns the tags of a repository that begin with a prefix.
func newRegistry(repo name.Repository, prefix string, silence time.Duration) (*registry, error) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = parallelBlobs
	options := []remote.Option{
		remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithTransport(&watched{base, silence}),
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

// AwayError is returned when a registry does not answer: it is of no use to ask it for more.
type AwayError struct {
	Registry string
	Err      error
}

// Error names the registry.
func (e *AwayError) Error() string { return fmt.Sprintf("registry %s: %v", e.Registry, e.Err) }

// Unwrap returns the reason.
func (e *AwayError) Unwrap() error { return e.Err }

func (r *registry) fail(err error) error {
	if silent := (*SilentError)(nil); errors.As(err, &silent) {
		return &AwayError{r.repo.RegistryStr(), silent}
	}
	if network := (*net.OpError)(nil); errors.As(err, &network) {
		return &AwayError{r.repo.RegistryStr(), err}
	}
	return fmt.Errorf("registry %s: %w", r.repo.RegistryStr(), err)
}

// isMissing reports whether a registry says that something is not there.
func isMissing(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && e.StatusCode == http.StatusNotFound
}

func (r *registry) tags(ctx context.Context) ([]string, error) {
	all, err := r.puller.List(ctx, r.repo)
	if isMissing(err) { // nothing was pushed yet
		return nil, nil
	}
	if err != nil {
		return nil, r.fail(err)
	}
	var out []string
	for _, t := range all {
		if rest, ok := strings.CutPrefix(t, r.prefix); ok {
			out = append(out, rest)
		}
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
	return body, nil
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

// SilentError is returned when a registry has sent and taken nothing for some time.
type SilentError struct{ Limit time.Duration }

// Error names the time.
func (e *SilentError) Error() string { return fmt.Sprintf("it has been silent for %v", e.Limit) }

// watched is a transport whose requests end when nothing moves for some time, however long
// they take in all.
type watched struct {
	base  http.RoundTripper
	limit time.Duration
}

// RoundTrip implements http.RoundTripper.
func (w *watched) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(w.limit, func() { cancel(&SilentError{w.limit}) })
	moved := func() { timer.Reset(w.limit) }
	explain := func(err error) error {
		if silent := (*SilentError)(nil); errors.As(context.Cause(ctx), &silent) {
			return silent
		}
		return err
	}
	req = req.Clone(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &watchedBody{ReadCloser: req.Body, moved: moved, explain: explain, closed: func() {}}
	}
	resp, err := w.base.RoundTrip(req)
	if err != nil {
		err = explain(err)
		timer.Stop()
		cancel(nil)
		return nil, err
	}
	moved()
	resp.Body = &watchedBody{ReadCloser: resp.Body, moved: moved, explain: explain, closed: func() {
		timer.Stop()
		cancel(nil)
	}}
	return resp, nil
}

// watchedBody calls functions when something was read, and at the end.
type watchedBody struct {
	io.ReadCloser
	moved, closed func()
	explain       func(error) error
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.moved()
	}
	if err != nil && err != io.EOF {
		err = b.explain(err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	defer b.closed()
	return b.ReadCloser.Close()
}
