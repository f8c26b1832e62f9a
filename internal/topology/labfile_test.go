package topology

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"provium/internal/fulltest"
)

const goodFile = `{"version":1,"lab":{"name":"provium",
"vms":[{"name":"a","profile":"p","state":"booted","file":"a.snap"},
{"name":"b","profile":"p","state":"created","opts":{"Memory":1048576}}],
"bridges":[{"name":"n","seed":1,"addressing":true,"ipv4":"10.77.0.0/24","ipv6":"fd00::/64",
"nics":[{"vm":"a","attached":true,"host":2,"mac":"02:00:00:00:00:01"}],"switch":{"whole":{"drop_pct":1}}}],
"labs":[{"name":"sub"}]}}`

func TestDecodeLabFile(t *testing.T) {
	if _, err := decode([]byte(goodFile)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ from, to, want string }{
		{`"version":1`, `"version":2`, "version 2 of the lab snapshot format"},
		{`"file":"a.snap"`, `"file":"../a.snap"`, "file"},
		{`"state":"created"`, `"state":"paused"`, "file"},
		{`"state":"created"`, `"state":"asleep"`, `state "asleep"`},
		{`"name":"b"`, `"name":"a"`, "two vms are called `a`"},
		{`"name":"b"`, `"name":"pack"`, "reserved"},
		{`"10.77.0.0/24"`, `"10.77.0.0/33"`, "networks"},
		{`"host":2`, `"host":1`, "nic of vm `a`"},
		{`"mac":"02:00:00:00:00:01"`, `"mac":"x"`, "nic of vm `a`"},
		{`{"name":"sub"}`, `{"name":"a b"}`, "lab name"},
		{`{"name":"sub"}`, `{"name":"sub"},{"name":"sub"}`, "two labs are called `sub`"},
		{`"Memory":1048576`, `"Memory":-1`, "vm `b`"},
		{`"seed":1`, `"seed":"x"`, "is of the kind"},
		{`"seed":1`, `"speed":1`, "unknown field"},
		{`{"version":1`, ``, "is damaged"},
		{`"labs":[{"name":"sub"}]`, deepLabs(maxDepth + 1), "nested more than 16 deep"},
		{`"labs":[{"name":"sub"}]`, deepLabs(maxDepth), ""},
	} {
		_, err := decode([]byte(strings.Replace(goodFile, tc.from, tc.to, 1)))
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.to, err, tc.want)
		}
	}
	_, err := decode(make([]byte, maxFile+1))
	wantError(t, err, "more than 67108864 bytes")
}

// deepLabs returns sub-labs in each other.
func deepLabs(depth int) string {
	return strings.Repeat(`"labs":[{"name":"s",`, depth) + `"vms":[]` + strings.Repeat(`}]`, depth)
}

func FuzzDecodeLabFile(f *testing.F) {
	f.Add([]byte(goodFile))
	f.Add([]byte(`{"version":1,"lab":{"labs":[{"name":"a","labs":[{"name":"a"}]}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		lf, err := decode(text)
		if err != nil {
			return
		}
		// What was accepted is accepted again, with the same meaning.
		first, err := json.Marshal(lf)
		must(t, err)
		lf, err = decode(first)
		must(t, err)
		second, err := json.Marshal(lf)
		must(t, err)
		if !bytes.Equal(first, second) {
			t.Errorf("%s became %s", first, second)
		}
	})
}

func TestWriteAndRead(t *testing.T) {
	dir := t.TempDir()
	want, err := decode([]byte(goodFile))
	must(t, err)
	if IsLab(dir) {
		t.Error("an empty directory is a lab snapshot")
	}
	_, err = Read(dir)
	wantError(t, err, "is no lab snapshot (it has no lab.json)")
	must(t, want.Lab.Write(dir))
	got, err := Read(dir)
	must(t, err)
	if !IsLab(dir) || !reflect.DeepEqual(*got, want.Lab) {
		t.Errorf("%+v, want %+v", *got, want.Lab)
	}
	if !got.VMs[0].Runs() || got.VMs[1].Runs() {
		t.Errorf("%+v", got.VMs)
	}
	path := filepath.Join(dir, FileName)
	_, err = Read(path)
	wantError(t, err, "it is a file, and a lab's is a directory")
	_, err = Read(filepath.Join(dir, "none"))
	wantError(t, err, "lab snapshot `"+filepath.Join(dir, "none")+"`: no such file or directory")
	must(t, os.WriteFile(path, []byte("{}"), 0o600))
	_, err = Read(dir)
	wantError(t, err, "lab snapshot `"+dir+"` is in version 0")
	must(t, os.Remove(path))
	must(t, os.Mkdir(path, 0o700))
	_, err = Read(dir)
	wantError(t, err, "is a directory")
	huge := Lab{Name: strings.Repeat("x", 1<<20)}
	wantError(t, huge.write(t.TempDir(), 1<<20), "at most 1048576 are possible")
	if fulltest.Wanted() {
		huge.Name = strings.Repeat("x", maxFile)
		wantError(t, huge.Write(t.TempDir()), "at most 67108864 are possible")
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"ok-1_A": "", "": "is not valid", "a b": "is not valid", strings.Repeat("x", MaxName): "",
		strings.Repeat("x", MaxName+1): "1 to 63", "pack": "is reserved",
	} {
		if err := CheckName("vm", name); want == "" {
			must(t, err)
		} else {
			wantError(t, err, want)
		}
	}
	taken := map[string]bool{"a-1": true, "a-2": true}
	free, n := FirstFree(1, func(n int) string { return Numbered("a", "-", n) },
		func(s string) bool { return taken[s] })
	if free != "a-3" || n != 3 {
		t.Errorf("%s, %d", free, n)
	}
	if long := Numbered(strings.Repeat("x", MaxName), "-", 12); len(long) != MaxName ||
		!strings.HasSuffix(long, "x-12") {
		t.Error(long)
	}
}
