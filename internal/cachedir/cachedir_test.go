package cachedir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// base returns a directory whose parents are trusted whatever the umask.
func base(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)))
	return dir
}

func makeDir(t *testing.T, mode os.FileMode, parts ...string) string {
	t.Helper()
	dir := filepath.Join(parts...)
	must(t, os.MkdirAll(dir, 0o755))
	must(t, unix.Chmod(dir, uint32(mode)))
	return dir
}

// opener returns an Opener with what it has noted.
func opener(t *testing.T, home string) (o *Opener, notes *[]string) {
	notes = new([]string)
	return &Opener{Home: home, Temp: func() (string, error) { return os.MkdirTemp(t.TempDir(), "cache") },
		Note: func(text string) { *notes = append(*notes, text) }}, notes
}

func TestCheckFile(t *testing.T) {
	for _, c := range []struct {
		owner, mode uint32
		want        string
	}{
		{1000, unix.S_IFREG | 0o644, ""},
		{0, unix.S_IFDIR | 0o755, ""},
		{0, unix.S_IFLNK | 0o777, ""},
		{1000, unix.S_IFREG | 0o664, "can be written by others (mode 0664)"},
		{0, unix.S_IFDIR | 0o1777, "can be written by others (mode 01777)"},
		{1001, unix.S_IFREG | 0o600, "belongs to another user (uid 1001)"},
		{1001, unix.S_IFLNK | 0o777, "belongs to another user (uid 1001)"},
	} {
		err := checkFile(&unix.Stat_t{Uid: c.owner, Mode: c.mode}, 1000)
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestInspect looks at directories on paths of all kinds. Of the tests of package main,
// TestCacheDirectories has those of other users.
func TestInspect(t *testing.T) {
	dir := base(t)
	makeDir(t, 0o755, dir, "good/deep")
	makeDir(t, 0o777, dir, "open")
	makeDir(t, 0o755, dir, "open/below")
	makeDir(t, 0o1777, dir, "sticky")
	makeDir(t, 0o755, dir, "sticky/below")
	makeDir(t, 0o777, dir, "closed/open")
	makeDir(t, 0o700, dir, "closed")
	must(t, os.WriteFile(dir+"/file", nil, 0o644))
	for name, target := range map[string]string{"link": "good", "up": "good/../good", "far": dir + "/link/deep",
		"loop": "loop", "bad": "open"} {
		must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	for path, want := range map[string]string{
		"good": "", "good/deep": "", "good/new/er": "", "link": "", "link/deep": "", "up/deep": "", "far": "",
		"sticky/below": "", "sticky/new": "",
		"sticky":     "sticky can be written by others (mode 01777)",
		"open/below": "open can be written by others (mode 0777)",
		"bad/below":  "open can be written by others (mode 0777)",
	} {
		s := Inspect(filepath.Join(dir, path), filepath.Join(dir, path))
		if path == "sticky" && len(s.Loose) == 1 { // ours: it is tightened
			continue
		}
		if want == "" && s.Distrust != nil || want != "" && (s.Distrust == nil ||
			!strings.HasSuffix(s.Distrust.Error(), "/"+want)) {
			t.Errorf("%s: %v, want %q", path, s.Distrust, want)
		}
	}
	for _, path := range []string{"file", "file/below", "loop", "loop/below"} {
		if s := Inspect(filepath.Join(dir, path), ""); s.Err == nil || s.Distrust != nil || s.ReadOnly != nil {
			t.Errorf("%s: %+v", path, s)
		}
	}
	if s := Inspect(dir+"/closed/open/below", dir); s.Distrust != nil || len(s.Loose) > 0 {
		t.Errorf("below a directory that nobody else can enter: %+v", s)
	}
	if s := Inspect(dir+"/open/below", dir+"/good"); s.Distrust == nil {
		t.Errorf("below another home: %+v", s)
	}
	if s := Inspect(dir+"/open/below", dir+"/open"); s.Distrust != nil || !slices.Equal(s.Loose,
		[]string{dir + "/open"}) {
		t.Errorf("from open down: %+v", s)
	}
}

// TestOpenTightens opens a directory in one that others can write to.
func TestOpenTightens(t *testing.T) {
	home := makeDir(t, 0o755, base(t), "home")
	loose := makeDir(t, 0o775, home, "provium")
	o, notes := opener(t, home)
	for range 2 {
		dir, err := o.Open(filepath.Join(loose, "images"), 1)
		if err != nil || dir != filepath.Join(loose, "images") {
			t.Errorf("%s, %v", dir, err)
		}
	}
	if info, err := os.Stat(loose); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	if want := fmt.Sprintf("[%s could be written by others (mode 0775): that is no longer so, since the cache is "+
		"in it]", loose); fmt.Sprint(*notes) != want {
		t.Errorf("%s", *notes)
	}
}

// TestOpenReadOnly opens a cache on a file system that cannot be written to, twice of the
// same kind of directory, with one note.
func TestOpenReadOnly(t *testing.T) {
	root := makeDir(t, 0o755, base(t), "provium")
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(root, unix.MNT_DETACH)
	makeDir(t, 0o755, root, "images/initrd/KEY@D")
	makeDir(t, 0o755, root, "images/locks")
	makeDir(t, 0o755, root, "fixtures/K.lab/sub")
	for path, text := range map[string]string{"images/initrd/KEY@D/initrd": "i", "fixtures/K.json": "r",
		"fixtures/K.lock": "", "fixtures/.building-1": "", "fixtures/K.lab/sub/a.snap": "s"} {
		must(t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o644))
	}
	must(t, unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	o, notes := opener(t, root)
	images, err := o.Open(root+"/images", 1)
	must(t, err)
	fixtures, err := o.Open(root+"/fixtures", 9)
	must(t, err)
	boots, err := o.Open(root+"/boots", 0) // which is not there
	must(t, err)
	for path, want := range map[string]string{images + "/initrd/KEY@D/initrd": "i", fixtures + "/K.json": "r",
		fixtures + "/K.lab/sub/a.snap": "s"} {
		if text, err := os.ReadFile(path); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	for _, path := range []string{fixtures + "/K.lock", fixtures + "/.building-1"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is used", path)
		}
	}
	for _, path := range []string{images + "/initrd/new", images + "/locks/new", fixtures + "/K.lab/new",
		fixtures + "/new", boots + "/new"} {
		must(t, os.WriteFile(path, nil, 0o600))
	}
	text := strings.Join(*notes, "\n")
	if len(*notes) != 1 || !strings.Contains(text, "the cache cannot be written to (") ||
		!strings.Contains(text, root+": read-only file system") {
		t.Errorf("%q", *notes)
	}
}

func TestPrivateGroup(t *testing.T) {
	etc := fstest.MapFS{
		"passwd": {Data: []byte("root:x:0:0::/:/\nme:x:1000:1000::/:/\nyou:x:1001:1001::/:/\n" +
			"they:x:1002:1001::/:/\n+\n")},
		"group": {Data: []byte("root:x:0:\nme:x:1000:me\nyou:x:1001:\nteam:x:50:me,you\n")},
	}
	for ids, want := range map[[2]uint32]bool{{1000, 1000}: true, {1001, 1001}: false, {1000, 50}: false, {0, 0}: false,
		{1000, 7}: false, {2000, 1000}: false} {
		if got := isPrivateGroup(etc, ids[0], ids[1]); got != want {
			t.Errorf("user and group %v: %t", ids, got)
		}
	}
	if isPrivateGroup(fstest.MapFS{}, 1000, 1000) {
		t.Error("nothing is known of the group")
	}
}

// TestHasACL lets another user write to a directory by an access control list.
func TestHasACL(t *testing.T) {
	dir := base(t)
	if hasACL(dir) {
		t.Error("a new directory has a list")
	}
	le := binary.LittleEndian
	acl := le.AppendUint32(nil, 2) // version
	const undefined = 0xffffffff
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 7, undefined}, {0x02, 7, 1234}, {0x04, 5, undefined}, {0x10, 7, undefined}, {0x20, 5, undefined}} {
		acl = le.AppendUint32(le.AppendUint16(le.AppendUint16(acl, e.tag), e.perm), e.id)
	}
	if err := unix.Setxattr(dir, "system.posix_acl_access", acl, 0); err != nil {
		t.Skip(err)
	}
	if !hasACL(dir) {
		t.Error("the list is not seen")
	}
	var st unix.Stat_t
	must(t, unix.Stat(dir, &st))
	if st.Mode&0o020 == 0 {
		t.Errorf("mode %#o: the list is not in it", st.Mode)
	}
}
