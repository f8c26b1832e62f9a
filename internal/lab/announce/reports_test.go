package announce

import (
	"context"
	"errors"
	"strings"
	"testing"

	"provium/internal/event"
	"provium/internal/kernelreport"
)

// TestReportsHaveLinesOfSource has reports come while the lines of the first one are looked up: nobody waits who
// reports, and the order stays.
func TestReportsHaveLinesOfSource(t *testing.T) {
	v, got := collect()
	begun, goOn := make(chan struct{}), make(chan struct{})
	v.Source = func(_ context.Context, text string) (string, error) {
		if text == "a" {
			close(begun)
			<-goOn
		}
		return text + " (x.c:7)", errors.New("not all of them")
	}
	v.AwaitReports() // of none
	for _, title := range []string{"a", "b", "c"} {
		v.Reported(kernelreport.Finding{Title: title, Excerpt: title})
		if title == "a" {
			<-begun
		}
	}
	close(goOn)
	v.AwaitReports()
	var texts []string
	for _, e := range *got {
		texts = append(texts, e.(event.KernelReport).Text)
	}
	if got := strings.Join(texts, ", "); got != "a (x.c:7), b (x.c:7), c (x.c:7)" {
		t.Error(got)
	}
}
