package lab

import (
	"strings"
	"testing"
)

const goodLabFile = `{"version":1,"lab":{"name":"provium","vms":[{"name":"a","profile":"p","state":"booted","file":"a.snap"},
{"name":"b","profile":"p","state":"created","opts":{"Memory":1048576}}],"bridges":[{"name":"n","seed":1,"addressing":true,"ipv4":"10.77.0.0/24",
"ipv6":"fd00::/64","nics":[{"vm":"a","attached":true,"host":2,"mac":"02:00:00:00:00:01"}],"switch":{"whole":{"drop_pct":1}}}],
"labs":[{"name":"sub"}]}}`

func TestDecodeLabFile(t *testing.T) {
	if _, err := decodeLabFile([]byte(goodLabFile)); err != nil {
		t.Fatal(err)
	}
	for change, want := range map[string]string{
		`"version":1`:               "version 2 of the lab snapshot format",
		`"file":"a.snap"`:           "file",
		`"state":"created"`:         "file",
		`"name":"b"`:                "two vms are called `a`",
		`"10.77.0.0/24"`:            "networks",
		`"host":2`:                  "nic of vm `a`",
		`"mac":"02:00:00:00:00:01"`: "nic of vm `a`",
		`{"name":"sub"}`:            "lab name",
		`"Memory":1048576`:          "vm `b`",
		`"seed":1`:                  "cannot unmarshal",
	} {
		to := map[string]string{`"version":1`: `"version":2`, `"file":"a.snap"`: `"file":"../a.snap"`, `"state":"created"`: `"state":"paused"`,
			`"name":"b"`: `"name":"a"`, `"10.77.0.0/24"`: `"10.77.0.0/33"`, `"host":2`: `"host":1`, `"mac":"02:00:00:00:00:01"`: `"mac":"x"`,
			`{"name":"sub"}`: `{"name":"a b"}`, `"Memory":1048576`: `"Memory":-1`, `"seed":1`: `"seed":"x"`}[change]
		_, err := decodeLabFile([]byte(strings.Replace(goodLabFile, change, to, 1)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", to, err, want)
		}
	}
}

func FuzzDecodeLabFile(f *testing.F) {
	f.Add([]byte(goodLabFile))
	f.Add([]byte(`{"version":1,"lab":{"labs":[{"name":"a","labs":[{"name":"a"}]}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if lf, err := decodeLabFile(text); (lf == nil) == (err == nil) {
			t.Error(lf, err)
		}
	})
}
