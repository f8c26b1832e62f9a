package plainwords

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestJargon(t *testing.T) {
	_, number := strconv.Atoi("x")
	for _, err := range []error{
		fmt.Errorf("read the file: %w", errors.New("unexpected EOF")),
		context.Canceled, context.DeadlineExceeded, number, net.ErrClosed, fs.ErrClosed, unix.EPIPE,
		fmt.Errorf("it is %v", map[string]int{}),
	} {
		if found := Jargon(fmt.Sprint("a line\n", err, "\n")); len(found) != 1 {
			t.Errorf("%v: %q", err, found)
		}
	}
	for _, text := range []string{"", "vm:run: timed out after 50ms\n", "the console ended (console EOF)",
		"the file `/x`: no such file or directory", "signal 9", strings.Repeat("word ", 1000)} {
		if found := Jargon(text); len(found) > 0 {
			t.Errorf("%q: %q", text, found)
		}
	}
}
