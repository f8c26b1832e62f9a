// Package nbd speaks the Network Block Device protocol: Serve lets a client use a
// Backend, and Client uses the default export of another server.
//
// It stores nothing, knows no guest and no emulator, starts no process and opens
// no socket: a connection is given to it. The protocol is that of
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md: fixed
// newstyle handshake, structured replies, block status of base:allocation.
//
// Start reading at Serve in server.go; proto.go has the numbers and the layout of
// messages, handshake.go what comes before the first request.
package nbd

// BlockSize is the unit of requests, in bytes.
const BlockSize = 512
