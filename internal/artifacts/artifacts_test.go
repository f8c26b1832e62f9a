package artifacts

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"provium/internal/event"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readme(t *testing.T, f *Folder) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.Dir, readmeFile))
	must(t, err)
	return string(text)
}

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
}

func TestNames(t *testing.T) {
	long := strings.Repeat("ä/", 200)
	for _, c := range []struct{ file, test, want string }{
		{"tests/net/split.test.lua", "cluster heals", "split.cluster_heals"},
		{"a.test.lua", "", "a"},
		{"a.test.lua", "../../etc", "a..._.._etc"},
		{".test.lua", "", "_"},
		{"\x1b[2J.test.lua", "a\nb\x00", "__2J.a_b_"},
	} {
		if got := folderName(c.file, c.test); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if got := folderName(long, long); len(got) > 2*longestFolder+2 || strings.ContainsRune(got, '/') {
		t.Errorf("%q", got)
	}
}

// Two failures of one name have two folders; one that a process of the run has begun is gone on with.
func TestCreate(t *testing.T) {
	p := Place{Dir: filepath.Join(t.TempDir(), "kept")}
	must(t, p.Check())
	if _, err := os.Stat(p.Dir); err == nil {
		t.Error("the check has left something")
	}
	r := Record{Run: "1", File: "a.test.lua", Test: "x"}
	first, err := p.Create(r)
	must(t, err)
	again, err := p.Create(r)
	must(t, err)
	other := r
	other.Run = "2"
	second, err := p.Create(other)
	must(t, err)
	if again.Dir != first.Dir || second.Dir != first.Dir+"-2" {
		t.Errorf("%s, %s, %s", first.Dir, again.Dir, second.Dir)
	}
	must(t, again.Finish("why", 0))
	if third, err := p.Create(r); err != nil || third.Dir != first.Dir+"-3" {
		t.Errorf("%+v, %v", third, err)
	}
	if text := readme(t, again); !strings.Contains(text, "| `replay.json` | written before the process") {
		t.Error(text)
	}
	if got, err := ReadRecord(first.Dir); err != nil || got.Test != "x" || got.Format != recordFormat {
		t.Errorf("%+v, %v", got, err)
	}
	second.Drop()
	if len(p.Folders()) != 2 {
		t.Error(p.Folders())
	}
}

// A place that another run uses is not emptied.
func TestClaim(t *testing.T) {
	p := Place{Dir: t.TempDir()}
	_, err := p.Create(Record{File: "a.test.lua"})
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(p.Dir, "mine", recordFile), 0o777))
	release, err := p.Claim()
	must(t, err)
	if n := len(p.Folders()); n != 0 {
		t.Errorf("%d folders of the run before are left", n)
	}
	_, err = p.Create(Record{File: "b.test.lua"})
	must(t, err)
	other, err := p.Claim()
	must(t, err)
	other()
	if n := len(p.Folders()); n != 1 {
		t.Errorf("%d folders of a run that goes on", n)
	}
	release()
	if _, err := os.Stat(filepath.Join(p.Dir, "mine", recordFile)); err != nil {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	p := Place{Dir: t.TempDir(), Limit: 4000}
	f, err := p.Create(Record{File: "a.test.lua"})
	must(t, err)
	f.Add("long", "x", 10, text("0123456789abc"))
	f.Add("long", "of n1|\n\x1b[2J", 100, text("other"))
	f.Add("../\x1b", "x", 100, func(io.Writer) error { return errors.New("no\x1bdisk") })
	f.Add("rest", "x", 1<<20, text(strings.Repeat("y", 10_000)))
	f.Omit("dmesg", fmt.Errorf("silent"))
	if err := f.Finish("boom\x1b[2J\nat 7", time.Second); err == nil || err.Error() != "no\x1bdisk" {
		t.Error(err)
	}
	got, err := os.ReadFile(filepath.Join(f.Dir, "long"))
	must(t, err)
	if used := p.used() - int64(len(readme(t, f))); string(got) != "0123456789" || used > p.Limit {
		t.Errorf("%q, %d bytes", got, used)
	}
	for _, part := range []string{"    boom\\x1b[2J\n    at 7\n", "`long`: only its first 10 bytes are kept",
		"| `long-2` | of n1\\| \\x1b[2J |", "`_..__`: no\\x1bdisk", "`rest`: only its first", "- dmesg: silent"} {
		if text := readme(t, f); !strings.Contains(text, part) {
			t.Errorf("%q is missing in\n%s", part, text)
		}
	}
}

func TestRecorder(t *testing.T) {
	var r Recorder
	r.Take(event.VMSpawned{VMName: "n1"})
	for range 2 * maxChunkEvents / 1_000_000 {
		r.Take(event.ConsoleOutput{Text: strings.Repeat("c", 1_000_000)})
	}
	r.Take(event.TestStarted{Name: "old"})
	r.Take(event.TestStarted{Name: "new"})
	for i := range 2 * maxEvents / 1_000_000 {
		r.Take(event.ConsoleOutput{VMName: fmt.Sprint(i), Text: strings.Repeat("x", 1_000_000)})
	}
	for range 2 * maxAttached / 8_000_000 {
		r.Take(event.TestAttachment{Attachment: "big", Size: 8_000_000, Data: make([]byte, 8_000_000)})
	}
	f, err := Place{Dir: t.TempDir()}.Create(Record{})
	must(t, err)
	r.Save(f)
	if r.Test() != "new" || len(r.chunk) < 3 || len(r.chunk) > 1+maxChunkEvents/1_000_000 || r.size > maxEvents {
		t.Errorf("%q, %d events of the chunk, %d bytes", r.Test(), len(r.chunk), r.size)
	}
	must(t, f.Finish("", 0))
	saved, err := os.ReadFile(filepath.Join(f.Dir, eventsFile))
	must(t, err)
	if s := string(saved); !strings.Contains(s, "vm_spawned") || strings.Contains(s, `"old"`) ||
		!strings.Contains(s, `"vm_name":"31"`) || strings.Contains(s, `"vm_name":"1",`) {
		t.Errorf("%d bytes of events", len(s))
	}
	if text := readme(t, f); !strings.Contains(text, "- the attachment big: all together") ||
		!strings.Contains(text, "- events: ") || !strings.Contains(text, "`attachment-4-big`") ||
		strings.Contains(text, "`attachment-5-big`") {
		t.Error(text)
	}
	r.Again()
	if len(r.events) != 0 || r.held != 0 {
		t.Error("events of the attempt before are left")
	}
}

func TestReadRecord(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadRecord(dir); err == nil || !strings.Contains(err.Error(), "is no folder of a failed test") {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"":                              "it is no record",
		"[]":                            "it is no record",
		`{"format":2}`:                  "its format is 2",
		`{"format":1,"file":"../x"}`:    "outside of the project",
		`{"format":1,"file":"/x"}`:      "outside of the project",
		`{"format":1,"file":"a\u0000"}`: "NUL",
		`{"format":1,"file":"a","timeout_ns":-1}`: "negative",
		strings.Repeat(" ", maxRecord) + "{}":     "no record",
	} {
		must(t, os.WriteFile(filepath.Join(dir, recordFile), []byte(text), 0o600))
		if _, err := ReadRecord(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func TestDifferences(t *testing.T) {
	then := Versions{Provium: "1", QEMU: "7.2", Kernel: "Linux 6.1"}
	got := then.Differences(Versions{Provium: "1", Kernel: "Linux 6.12"})
	want := []string{"QEMU: unknown, then 7.2", "kernel of the host: Linux 6.12, then Linux 6.1"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

// Whatever is in a record, what is read of it stays within the project, and is written as it was read.
func FuzzRecord(f *testing.F) {
	for _, seed := range []string{`{"format":1,"file":"a.test.lua","test":"x","seed":18446744073709551615}`,
		`{"format":1,"file":"../a"}`, `{"format":1,"file":"a","profiles":{"p":"d"},"versions":{"qemu":"7"}}`, `{}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if err != nil {
			return
		}
		if !filepath.IsLocal(r.File) || r.Timeout < 0 {
			t.Fatalf("%+v", r)
		}
		var b strings.Builder
		must(t, r.write(&b))
		if again, err := parseRecord([]byte(b.String())); err == nil && !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v\n%+v", again, r)
		}
	})
}

// TestCheckBeside has runs that begin at the same time check one directory.
func TestCheckBeside(t *testing.T) {
	p := Place{Dir: filepath.Join(t.TempDir(), "new")}
	errs := make([]error, 8)
	var checks sync.WaitGroup
	for i := range errs {
		checks.Go(func() {
			for range 200 {
				errs[i] = errors.Join(errs[i], p.Check())
			}
		})
	}
	checks.Wait()
	must(t, errors.Join(errs...))
}
