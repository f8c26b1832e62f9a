package inputerror

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"provium/internal/plainwords"
)

func TestPlain(t *testing.T) {
	if err := Plain(nil); err != nil {
		t.Error(err)
	}
	other := errors.New("the file EOFX is of 3 bytes")
	if err := Plain(other); err != other {
		t.Error(err)
	}
	for _, cause := range []error{io.EOF, io.ErrUnexpectedEOF} {
		err := Plain(fmt.Errorf("layer 3: read gzip stream: %w", cause))
		if !errors.Is(err, cause) || err.Error() != "layer 3: read gzip stream: it ends too early" ||
			len(plainwords.Jargon(err.Error())) > 0 {
			t.Error(err)
		}
	}
}
