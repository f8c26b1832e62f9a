package topology

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
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
		{`"seed":1`, `"seed":"x"`, "cannot unmarshal"},
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
