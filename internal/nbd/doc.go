// Package nbd is a disk of our own: contents with a volatile write cache, faults
// on demand, and the server side of the Network Block Device protocol through
// which an emulator, or any other client, uses it.
//
// It knows no guest and no emulator, starts no process and opens no socket: a
// connection is given to it. The protocol is that of
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md: fixed
// newstyle handshake, structured replies, block status of base:allocation.
package nbd

// SectorSize is the unit of guest requests, in bytes.
const SectorSize = 512
