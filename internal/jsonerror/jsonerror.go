// Package jsonerror says in words for people why a text is not the JSON that is expected.
//
// It reads no JSON itself: callers pass it the errors of encoding/json.
package jsonerror

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Plain returns the words for an error of a decoder. Errors of others are returned as they are.
func Plain(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.As(err, &syntax) && strings.HasPrefix(syntax.Error(), "unexpected end"):
		return errors.New("its JSON ends too early")
	case errors.As(err, &syntax):
		return fmt.Errorf("it is no JSON from byte %d on", syntax.Offset)
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Errorf("its field `%s` is of the kind `%s`, which is not expected", kind.Field, kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("it is of the kind `%s`, which is not expected", kind.Value)
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("it has an unknown field %s", field)
	}
	return err
}
