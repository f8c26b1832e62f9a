// Package agent carries out, inside a Linux guest, the operations that the
// host asks for over the link: commands, files, clocks. It serves sessions on
// a connection it is given; finding and opening that connection, and bringing
// a guest up as PID 1, is package boot's work. It has no Lua, no network
// service and no state on disk.
package agent
