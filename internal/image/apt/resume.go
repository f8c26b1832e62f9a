package apt

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// helper downloads a file and, unlike `apt-get download`, continues one that is there in part.
const helper = "/usr/lib/apt/apt-helper"

// remoteFile is a package on a server.
type remoteFile struct {
	uri, name, hash string
	size            int64
}

// uriLine is a line of --print-uris.
var uriLine = regexp.MustCompile(`(?m)^'([^'\s]+)' ([A-Za-z0-9][A-Za-z0-9.+~_%-]*\.deb) ([0-9]{1,15}) ` +
	`((?:SHA256|SHA512):[0-9a-f]+)$`)

// files returns where packages are on their servers, nil if that cannot be found out.
func (a *apt) files(ctx context.Context, packages []string) []remoteFile {
	elsewhere := *a
	elsewhere.dir = "/" // it would remove parts of files from its working directory
	text, err := elsewhere.apt(ctx, "apt-get", append([]string{"-q", "--print-uris", "download"}, packages...)...)
	if err != nil {
		return nil
	}
	return parseURIs(text, len(packages))
}

// parseURIs returns the files of --print-uris, nil unless there are so many.
func parseURIs(text string, n int) []remoteFile {
	found := uriLine.FindAllStringSubmatch(text, -1)
	if len(found) != n {
		return nil
	}
	var out []remoteFile
	for _, m := range found {
		size, err := strconv.ParseInt(m[3], 10, 64)
		if err != nil {
			return nil
		}
		out = append(out, remoteFile{uri: m[1], name: m[2], hash: m[4], size: size})
	}
	return out
}

// resume downloads files. What earlier calls have left of them is kept, and continued where
// the server allows it.
func (a *apt) resume(ctx context.Context, files []remoteFile) (debs []string, err error) {
	a.keepOnly(files)
	for _, f := range files {
		path := filepath.Join(a.dir, f.name)
		if err := a.fetch(ctx, f, path); err != nil {
			return nil, err
		}
		debs = append(debs, path)
	}
	return debs, nil
}

// keepOnly removes what is left of other packages than these.
func (a *apt) keepOnly(files []remoteFile) {
	wanted := map[string]bool{}
	for _, f := range files {
		wanted[f.name] = true
	}
	items, _ := os.ReadDir(a.dir)
	for _, i := range items {
		if strings.Contains(i.Name(), ".deb") && !wanted[i.Name()] {
			_ = os.Remove(filepath.Join(a.dir, i.Name())) // it takes space only
		}
	}
}

// fetch downloads one file. The helper checks its hash.
func (a *apt) fetch(ctx context.Context, f remoteFile, path string) error {
	_, err := os.Stat(path)
	partly := err == nil
	text, err := a.output(ctx, helper, "-o", "Debug::Acquire::http=1", "-o", "Debug::Acquire::https=1", "download-file",
		f.uri, path, f.hash)
	if err == nil {
		return nil
	}
	// A server continues a file only if the time of the part is that of the whole. The
	// helper sets it at an error, and cannot when it is killed.
	if at, ok := lastModified(text); ok && ctx.Err() != nil {
		_ = os.Chtimes(path, at, at) // else all is downloaded anew
	}
	if _, gone := os.Stat(path); partly && gone != nil && ctx.Err() == nil {
		// The part was of another file. The helper has put it aside.
		_, err = a.output(ctx, helper, "download-file", f.uri, path, f.hash)
	}
	return err
}

// modifiedLine is the time of a file in the answer of a server.
var modifiedLine = regexp.MustCompile(`(?mi)^Last-Modified:[ \t]*([^\r\n]{1,64})\r?$`)

// lastModified returns the last time of a file in what the helper has printed.
func lastModified(text string) (time.Time, bool) {
	all := modifiedLine.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC1123, all[len(all)-1][1])
	return at, err == nil
}

// getWhole downloads packages where the helper cannot be used.
func (a *apt) getWhole(ctx context.Context, packages []string) ([]string, error) {
	a.keepOnly(nil)
	if _, err := a.apt(ctx, "apt-get", append([]string{"-q", "download"}, packages...)...); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(globQuote(a.dir), "*.deb"))
}

// globQuote makes a path a pattern that matches only itself.
func globQuote(p string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(p)
}
