// Package blockdev is the contents of a virtual disk: a medium behind a volatile
// write cache, with faults and power cuts on demand, recordings of what is written,
// and snapshots that copy nothing.
//
// It knows no guest and no emulator, starts no process and opens no socket.
// Disk.Serve serves the disk to a client through package nbd, which has the protocol.
//
// Start reading at Disk in disk.go: guestRead and change carry out a request. Below
// it are the medium (store.go), layers of sectors in files (layer.go, table.go) and
// image files (imagefile.go); beside it power cuts
// (unflushed.go) and recordings (record.go, states.go). Package fault decides which
// requests fail, package crash which contents a power cut can leave.
package blockdev

import "provium/internal/nbd"

// SectorSize is the unit of guest requests, in bytes.
const SectorSize = nbd.BlockSize
