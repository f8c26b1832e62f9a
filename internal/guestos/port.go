package guestos

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"provium/internal/deadline"
)

// Protocols returns the protocols that AwaitPort knows.
func Protocols() []string { return []string{"tcp", "udp"} }

// AwaitPort waits until a program of the guest listens on a port, or is bound to it for UDP.
func AwaitPort(ctx context.Context, g Guest, limit *deadline.Deadline, protocol string, port int) error {
	what := "port " + strconv.Itoa(port)
	if protocol != "tcp" {
		what += "/" + protocol
	}
	return await(ctx, limit, what, func(ctx context.Context) (bool, string, error) {
		var open []int
		for _, table := range []string{protocol, protocol + "6"} {
			text, err := g.ReadFile(ctx, "/proc/net/"+table)
			if why, ok := refused(err); ok {
				if isMissing(err) { // there is no IPv6, or no /proc yet
					continue
				}
				return false, why, nil
			}
			if err != nil {
				return false, "", err
			}
			open = append(open, parsePorts(text, protocol)...)
		}
		slices.Sort(open)
		open = slices.Compact(open)
		return slices.Contains(open, port), openPorts(open), nil
	})
}

// maxPorts is how many open ports an error names.
const maxPorts = 20

func openPorts(open []int) string {
	if len(open) == 0 {
		return "no port is open"
	}
	names := make([]string, 0, maxPorts)
	for _, p := range open[:min(len(open), maxPorts)] {
		names = append(names, strconv.Itoa(p))
	}
	text := "open are " + strings.Join(names, ", ")
	if len(open) > maxPorts {
		text += fmt.Sprintf(" and %d more", len(open)-maxPorts)
	}
	return text
}

// States of sockets in the tables below /proc/net, see include/net/tcp_states.h of Linux.
const (
	tcpListen = "0A"
	udpBound  = "07"
)

// parsePorts returns the local ports of a table below /proc/net that are open: those that are listened on, or that a
// socket is bound to for UDP. Lines in another form are left out.
func parsePorts(table []byte, protocol string) (open []int) {
	want := tcpListen
	if protocol == "udp" {
		want = udpBound
	}
	for line := range bytes.Lines(table) {
		fields := strings.Fields(string(line[:min(len(line), maxLine)]))
		if len(fields) < 4 || fields[3] != want {
			continue
		}
		_, hex, ok := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); ok && err == nil {
			open = append(open, int(n))
		}
	}
	return open
}

// maxLine is how much of a line in a table is looked at, in bytes.
const maxLine = 512
