// Package agent carries out, inside a Linux guest, the operations that the host
// asks for over the link. It decides which package does what: session has the
// link, process the commands, executor the system calls, file the files, and
// netconf the network; clocks and entropy are here. It has no Lua, no network
// service and no state on disk.
//
// It serves a connection that it is given: to bring a guest up and to open the
// link's port is package boot's job. Start with dispatch.go.
package agent
