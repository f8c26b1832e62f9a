package sharedcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	maxRedirects = 8        // that follow each other
	maxTagList   = 64 << 20 // bytes of one page of tags
)

// transportError is why a request was given up here.
type transportError struct{ text string }

// Error returns the reason.
func (e *transportError) Error() string { return e.text }

// watched is a transport whose requests end when nothing moves for some time, however long
// they take in all.
type watched struct {
	base  http.RoundTripper
	limit time.Duration
}

// RoundTrip implements http.RoundTripper.
func (w *watched) RoundTrip(req *http.Request) (*http.Response, error) {
	// The clients of the registry's library do not count them.
	redirects := 0
	for r := req.Response; r != nil && r.Request != nil; r = r.Request.Response {
		if redirects++; redirects > maxRedirects {
			return nil, &transportError{fmt.Sprintf("it redirects more than %d times", maxRedirects)}
		}
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(w.limit, func() {
		cancel(&transportError{fmt.Sprintf("it has been silent for %v", w.limit)})
	})
	moved := func() { timer.Reset(w.limit) }
	explain := func(err error) error {
		if silent := (*transportError)(nil); errors.As(context.Cause(ctx), &silent) {
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
	if strings.HasSuffix(req.URL.Path, "/tags/list") {
		resp.Body = &shortBody{resp.Body, maxTagList}
	}
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

// shortBody fails when more than some bytes are read.
type shortBody struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *shortBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, &transportError{"its list of tags does not end"}
	}
	return n, err
}
