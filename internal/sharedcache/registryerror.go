package sharedcache

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// AwayError is returned when a registry does not answer, or refuses to, and when nothing can be written to a
// directory: it is of no use to ask it for more.
type AwayError struct {
	Registry string // "" for a directory, whose path is in Err
	Err      error
}

// Error names the registry.
func (e *AwayError) Error() string {
	if e.Registry == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("registry %s: %v", e.Registry, e.Err)
}

// Unwrap returns the reason.
func (e *AwayError) Unwrap() error { return e.Err }

// fail returns an error of the registry with its name.
func (r *registry) fail(err error) error {
	host := r.repo.RegistryStr()
	if local := (*LocalError)(nil); errors.As(err, &local) {
		return local
	}
	if own := (*transportError)(nil); errors.As(err, &own) {
		return &AwayError{host, own}
	}
	if answer := (*transport.Error)(nil); errors.As(err, &answer) {
		return r.refused(answer)
	}
	if network := (*net.OpError)(nil); errors.As(err, &network) {
		return &AwayError{host, fmt.Errorf("it cannot be reached: %w", network)}
	}
	// Those that are asked without it are asked with it first.
	mismatch := errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, new(tls.RecordHeaderError))
	if mismatch && r.repo.Scheme() == "https" {
		return &AwayError{host, errors.New("it speaks HTTP without TLS, and only registries on this machine, in " +
			"private networks and below .local are asked without it: have it use TLS, or name it by such an address")}
	}
	if bad := (*tls.CertificateVerificationError)(nil); errors.As(err, &bad) {
		if err = bad; errors.As(err, new(x509.UnknownAuthorityError)) {
			err = fmt.Errorf("%w; SSL_CERT_FILE names a file with the certificates of authorities", bad)
		}
		return &AwayError{host, err}
	}
	if strings.HasPrefix(err.Error(), "invalid realm in ") {
		return &AwayError{host, err}
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return fmt.Errorf("registry %s: its answer is not JSON, so it may be something else than a registry: %w", host,
			err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("an answer ends before its length")
	}
	return fmt.Errorf("registry %s: %w", host, err)
}

// refused returns the error of an answer that is no success.
func (r *registry) refused(answer *transport.Error) error {
	host := r.repo.RegistryStr()
	text := fmt.Sprintf("it answers %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	for _, d := range answer.Errors {
		if d.Message != "" {
			text += ": " + strings.TrimSpace(d.Message)
		}
	}
	err := &answerError{text, answer}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		err.text += fmt.Sprintf("; log in with `docker login %s`, or ask for the right to use `%s`", host,
			r.repo.RepositoryStr())
	case http.StatusTooManyRequests:
		err.text += "; try again later, or use a mirror of it"
	case http.StatusServiceUnavailable:
		err.text += "; try again later"
	case http.StatusInsufficientStorage, http.StatusRequestEntityTooLarge:
		return fmt.Errorf("registry %s: %w; remove entries that it no longer needs", host, err)
	default:
		return fmt.Errorf("registry %s: %w", host, err)
	}
	return &AwayError{host, err}
}

// answerError is a transport.Error in words for people.
type answerError struct {
	text string
	err  error
}

// Error returns the words.
func (e *answerError) Error() string { return e.text }

// Unwrap returns the transport.Error.
func (e *answerError) Unwrap() error { return e.err }

// isMissing reports whether a registry says that something is not there.
func isMissing(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && e.StatusCode == http.StatusNotFound
}
