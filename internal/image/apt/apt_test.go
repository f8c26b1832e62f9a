package apt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"provium/internal/arch"
)

// FuzzDepends checks that names of packages are words of the text, and that a list which
// the package manager makes of them is read as they are.
func FuzzDepends(f *testing.F) {
	f.Add("linux-image-amd64\n  Depends: linux-image-6.1.0-9-amd64\n |Depends: x\n  PreDepends: y:any\n  Breaks: z\n")
	f.Fuzz(func(t *testing.T, text string) {
		names := parseDepends(text)
		list := "package\n"
		for _, n := range names {
			if !strings.Contains(text, n) || strings.ContainsAny(n, "\n:") || n != strings.TrimSpace(n) {
				t.Errorf("name %q", n)
			}
			list += "  Depends: " + n + "\n"
		}
		if slices.Contains(names, "") {
			t.Errorf("%q has an empty name", text)
			return
		}
		if again := parseDepends(list); !slices.Equal(again, names) {
			t.Errorf("%q became %q", names, again)
		}
	})
}

// server is a package manager whose downloads can end early.
type server struct {
	t      *testing.T
	fail   string // what the helper prints when it fails; "" is success
	during func() // while the helper downloads
	ran    []string
	found  []string // what was there of the file before each download
	after  string   // what the helper leaves in its place, "" for nothing
}

const (
	meta    = "linux-image-cloud-amd64"
	kernel  = "linux-image-6.1.0-9-cloud-amd64"
	debFile = kernel + "_6.1~1_amd64.deb"
)

func (s *server) Run(_ context.Context, dir string, _ []string, name string, args ...string) ([]byte, []byte, error) {
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		return a == "-q" || a == "-o" ||
			strings.Contains(a, "::")
	})
	s.ran = append(s.ran, strings.Join(append([]string{filepath.Base(name)}, args...), " "))
	bad := errors.New("exit status 100")
	switch {
	case name == "apt-cache" && args[1] == meta:
		return []byte("  Depends: " + kernel + "\n"), nil, nil
	case name == "apt-cache":
		return nil, nil, nil
	case args[0] == "--print-uris":
		// As apt does, which wants whole files there.
		if err := os.Remove(filepath.Join(dir, debFile)); err == nil {
			s.t.Error("the part of a file is gone")
		}
		return []byte("'http://h/p.deb' " + debFile + " 10 SHA256:00ff\n"), nil, nil
	case name == helper:
		part, err := os.ReadFile(args[2])
		if err != nil {
			part = []byte("nothing")
		}
		s.found = append(s.found, string(part))
		if s.during != nil {
			s.during()
		}
		if s.after == "" {
			os.Remove(args[2])
		} else if err := os.WriteFile(args[2], []byte(s.after), 0o644); err != nil {
			s.t.Error(err)
		}
		if s.fail != "" {
			return nil, []byte("HTTP/1.1 200 OK\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\nE: " + s.fail +
				"\n"), bad
		}
		return nil, nil, nil
	case name == "dpkg-deb":
		return nil, nil, nil
	}
	return nil, []byte("W: x\nE: no " + args[0]), bad
}

// fetch runs Fetch with its files in dir.
func (s *server) fetch(ctx context.Context, dir string) error {
	want, root := Want{Arch: arch.AMD64, What: Kernel}, filepath.Join(s.t.TempDir(), "root")
	_, err := Fetch(ctx, s, want, dir, root, func(string) {}, func(Progress) {})
	return err
}

func TestDownloadIsContinued(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "linux-image-5.deb"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, fail: "Failed to fetch: Remote end closed connection", after: "half"}
	if err := s.fetch(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "Remote end closed") {
		t.Error(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || files[0].Name() != debFile {
		t.Errorf("%v, %v", files, err)
	}
	s = &server{t: t, after: "whole"}
	if err := s.fetch(t.Context(), dir); err != nil || !slices.Equal(s.found, []string{"half"}) {
		t.Errorf("%v, continued %q", err, s.found)
	}
	if last := s.ran[len(s.ran)-1]; !strings.HasPrefix(last, "dpkg-deb -x "+filepath.Join(dir, debFile)) {
		t.Error(last)
	}
}

// TestPartOfAnotherFile: the helper puts a part aside whose end does not fit.
func TestPartOfAnotherFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, debFile), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, fail: "Hash Sum mismatch"}
	s.during = func() {
		if len(s.found) == 2 {
			s.fail, s.after = "", "whole"
		}
	}
	if err := s.fetch(t.Context(), dir); err != nil || !slices.Equal(s.found, []string{"other", "nothing"}) {
		t.Errorf("%v, %q", err, s.found)
	}
}

// TestStoppedDownload has the part get the time of the file on the server, without which no
// server continues it.
func TestStoppedDownload(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	s := &server{t: t, fail: "killed", after: "half", during: cancel}
	if err := s.fetch(ctx, dir); err == nil {
		t.Error("no error")
	}
	info, err := os.Stat(filepath.Join(dir, debFile))
	if err != nil || !info.ModTime().Equal(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%v, %v", info, err)
	}
}

// TestOffline: without a network no package lists are asked for.
func TestOffline(t *testing.T) {
	s := &server{t: t, fail: "Failed to fetch http://h/p.deb  Temporary failure resolving 'h'"}
	err := s.fetch(t.Context(), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "Temporary failure resolving 'h'") {
		t.Error(err)
	}
	for _, command := range s.ran {
		if strings.Contains(command, "update") {
			t.Error(command)
		}
	}
}

func TestParseURIs(t *testing.T) {
	const good = "'http://h/a_1.deb' a_1%3a2_amd64.deb 123 SHA256:00ff"
	for text, want := range map[string][]remoteFile{
		"Reading lists...\n" + good + "\n":  {{"http://h/a_1.deb", "a_1%3a2_amd64.deb", "SHA256:00ff", 123}},
		good + "\n" + good:                  nil, // more than were asked for
		"":                                  nil,
		"'http://h/a' ../a.deb 1 SHA256:00": nil,
		"'http://h/a' a.deb 1 MD5:00":       nil,
		"'http://h/a' a.deb -1 SHA256:00":   nil,
	} {
		if got := parseURIs(text, 1); !slices.Equal(got, want) {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// FuzzURIs checks that names of files stay in their directory.
func FuzzURIs(f *testing.F) {
	f.Add("'http://h/a_1.deb' a_1_amd64.deb 123 SHA256:00ff\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range parseURIs(text, 1) {
			if !filepath.IsLocal(r.name) || filepath.Base(r.name) != r.name || r.size < 0 {
				t.Errorf("%+v", r)
			}
		}
		lastModified(text)
	})
}
