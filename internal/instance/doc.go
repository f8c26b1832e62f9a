// Package instance is one boot of a virtual machine: a QEMU process, its consoles,
// and the link to the agent in the guest, over the resets of that guest until the
// process ends. A Pool keeps machines that were restored ahead of need.
//
// It knows no disks and networks, which come with the machine's description, and no
// states of VMs: package lab hears by Hooks what happens to a guest.
//
// Start reading at Start; link.go says how the agent is found after a reset.
package instance
