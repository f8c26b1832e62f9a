// Package forkserver starts QEMU processes as copies of one that was loaded before.
//
// Most of what a start of QEMU costs is the program itself: 120,000 relocations,
// libraries, and the registration of some thousand types. A fork server pays for it once:
// a C library, preloaded into QEMU (program/), stops it in front of its main function and
// forks a copy for each start, which goes on with the arguments and the files it is given.
// The copies share the memory that has not changed since.
//
// A server serves one process of ours and one QEMU program with one environment, is started
// when that is first wanted, and ends with us, as its copies do. Where it cannot be had, e.g. for
// a program that is not dynamically linked, processes are started the ordinary way.
//
// Start reading at Starter.Launch.
package forkserver
