package mtimer

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// serve answers the packets of a client by a function, as a stub does, and returns what it was asked.
func serve(conn net.Conn, answer func(packet string) string) (asked <-chan []string) {
	out := make(chan []string, 1)
	go func() {
		var all []string
		defer func() { out <- all }()
		defer conn.Close()
		r := bufio.NewReader(conn)
		for {
			if _, err := r.ReadString('$'); err != nil {
				return
			}
			packet, err := r.ReadString('#')
			if _, err2 := io.CopyN(io.Discard, r, 2); err != nil || err2 != nil {
				return
			}
			packet = strings.TrimSuffix(packet, "#")
			all = append(all, packet)
			a := answer(packet)
			if !strings.HasPrefix(a, "$") {
				a = fmt.Sprintf("+$%s#%02x", a, sum(a))
			}
			if _, err := io.WriteString(conn, a); err != nil {
				return
			}
		}
	}()
	return out
}

func TestSet(t *testing.T) {
	ours, theirs := net.Pipe()
	asked := serve(theirs, func(packet string) string {
		switch packet {
		case "m2004000,8":
			return "0102030405060708"
		case "m2004008,8":
			return "1112131415161718"
		}
		return "OK"
	})
	if err := Set(ours, 2); err != nil {
		t.Fatal(err)
	}
	ours.Close()
	want := "Qqemu.PhyMemMode:1 m2004000,8 M2004000,8:0102030405060708 m2004008,8 M2004008,8:1112131415161718 " +
		"Qqemu.PhyMemMode:0"
	if got := strings.Join(<-asked, " "); got != want {
		t.Errorf("asked %s", got)
	}
}

func TestSetFails(t *testing.T) {
	for _, c := range []struct{ at, answer, want string }{
		{"Q", "", `answers "" to Qqemu.PhyMemMode:1`}, // a stub that does not know it
		{"m", "E14", `CPU 0: gdb stub answers "E14"`},
		{"m", "01", `CPU 0: gdb stub answers "01"`},
		{"M", "E22", `answers "E22" to M2004000`},
		{"m", "$0102030405060708#00", `with the checksum "00"`},
		{"m", "$01020304", "EOF"},
	} {
		ours, theirs := net.Pipe()
		serve(theirs, func(packet string) string {
			if strings.HasPrefix(packet, c.at) {
				if c.want == "EOF" {
					defer theirs.Close()
				}
				return c.answer
			}
			if packet[0] == 'm' {
				return "0102030405060708"
			}
			return "OK"
		})
		if err := Set(ours, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s answered %q: %v", c.at, c.answer, err)
		}
		ours.Close()
	}
}
