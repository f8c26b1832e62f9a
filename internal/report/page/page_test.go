package page

import (
	"bytes"
	"os"
	"testing"

	"provium/internal/event"
)

func TestX(t *testing.T) {
	f, err := os.Open(os.Getenv("EV"))
	if err != nil {
		t.Skip()
	}
	var b Builder
	if err := b.Read(event.NewReader(f)); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	if err := b.Write(&out); err != nil {
		t.Fatal(err)
	}
	os.WriteFile("/tmp/pg/x.html", out.Bytes(), 0o644)
}
