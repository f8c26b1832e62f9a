// Package inputerror says in words for people that a file, or what a program has sent, has ended too early, where Go's
// libraries say "EOF".
//
// It reads nothing itself: packages pass it the errors that they return to others. JSON has package jsonerror.
package inputerror

import "regexp"

var eof = regexp.MustCompile(`\b(unexpected )?EOF\b`)

// plain is an error in other words.
type plain struct {
	text string
	err  error
}

func (p *plain) Error() string { return p.text }

func (p *plain) Unwrap() error { return p.err }

// Plain returns err in words for people. What errors.Is and errors.As find in it stays.
func Plain(err error) error {
	if err == nil || !eof.MatchString(err.Error()) {
		return err
	}
	return &plain{eof.ReplaceAllString(err.Error(), "it ends too early"), err}
}
