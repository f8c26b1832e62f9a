package uplink

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// FuzzResolvers checks that there always is a name server, on the port of names, and that
// a file with them is read as they are.
func FuzzResolvers(f *testing.F) {
	f.Add([]byte("# x\nnameserver 10.0.2.3\nnameserver fe80::1%eth0 # y\nsearch a\noptions ndots:1\n"))
	f.Add([]byte("nameserver\nnameserver 256.1.1.1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		servers := ParseResolvers(text)
		if len(servers) == 0 {
			t.Fatal("no name server")
		}
		var file strings.Builder
		for _, s := range servers {
			if !s.IsValid() || s.Port() != namePort {
				t.Errorf("server %v", s)
			}
			fmt.Fprintf(&file, "nameserver %s\n", s.Addr())
		}
		if again := ParseResolvers([]byte(file.String())); !slices.Equal(again, servers) {
			t.Errorf("%v became %v", servers, again)
		}
	})
}
