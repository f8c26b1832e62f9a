package e2e

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// remote speaks the remote protocol of gdb.
type remote struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// send sends a packet.
func (g *remote) send(packet string) {
	g.t.Helper()
	var sum byte
	for i := range len(packet) {
		sum += packet[i]
	}
	if _, err := fmt.Fprintf(g.conn, "$%s#%02x", packet, sum); err != nil {
		g.t.Fatal(err)
	}
}

// answer returns the next packet.
func (g *remote) answer() string {
	g.t.Helper()
	if _, err := g.r.ReadString('$'); err != nil {
		g.t.Fatal(err)
	}
	packet, err := g.r.ReadString('#')
	if err == nil {
		_, err = g.r.Discard(2)
	}
	if err == nil {
		_, err = io.WriteString(g.conn, "+")
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return strings.TrimSuffix(packet, "#")
}

// ask sends a packet and returns the answer.
func (g *remote) ask(packet string) string {
	g.t.Helper()
	g.send(packet)
	return g.answer()
}

// order sends a packet that is answered with OK. Reports of a stop may come before.
func (g *remote) order(packet string) {
	g.t.Helper()
	g.send(packet)
	got := g.answer()
	for strings.HasPrefix(got, "T") {
		got = g.answer()
	}
	if got != "OK" {
		g.t.Fatalf("%s: %q", packet, got)
	}
}

// TestBreakpointInTheKernel stops a guest at a function of its kernel when one of its processes makes that
// system call.
func TestBreakpointInTheKernel(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = r
	s := p.start("exec", "--gdb", "--", "sh", "-c",
		`grep ' __x64_sys_sethostname$' /proc/kallsyms; echo ready; read go; hostname moved; hostname`)
	p.stdin = nil
	r.Close()
	s.await("ready")
	socket := regexp.MustCompile(`target remote ([^']+)'`).FindStringSubmatch(s.stderr.String())
	address := regexp.MustCompile(`(?m)^([0-9a-f]{16}) T __x64_sys_sethostname`).FindStringSubmatch(s.stdout.String())
	if socket == nil || address == nil {
		t.Fatal(s.report())
	}
	conn, err := net.Dial("unix", socket[1])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	g := &remote{t, conn, bufio.NewReader(conn)}
	if got := g.ask("?"); !strings.HasPrefix(got, "T") {
		t.Fatalf("the guest is not stopped: %q", got)
	}
	g.order("Z1," + address[1] + ",1")
	g.send("c")
	if _, err := io.WriteString(w, "go\n"); err != nil {
		t.Fatal(err)
	}
	if got := g.answer(); !strings.HasPrefix(got, "T05") {
		t.Fatalf("stopped by %q", got)
	}
	// RIP is the 17th of the registers of 8 bytes, in the order of the bytes in memory.
	const rip = 16 * 16
	if all := g.ask("g"); len(all) < rip+16 || reversed(t, all[rip:rip+16]) != address[1] {
		t.Errorf("the registers %q, the breakpoint at %s", all, address[1])
	}
	if strings.Contains(s.stdout.String(), "moved") {
		t.Error("the call has returned")
	}
	g.order("z1," + address[1] + ",1")
	g.order("D")
	w.Close()
	s.wait().expect(0, "moved")
}

// reversed returns the hexadecimal digits of bytes in the other order.
func reversed(t *testing.T, digits string) string {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return hex.EncodeToString(b)
}
