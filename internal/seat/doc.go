// Package seat is what a person at a machine has: the picture on its screen, and a keyboard with the layout of the
// USA. It makes PNG files of pictures and keys of texts, and types at the speed at which a guest takes keys.
//
// It knows no QEMU beyond the names of its keys: package qemu has what a picture is read from and where keys go to.
//
// Start with PNG and Type.
package seat
