// Package topology describes labs: names, boot options and states of VMs, and the
// file lab.json, in which a lab snapshot keeps them.
//
// It runs nothing and knows no scopes: package lab has the labs themselves.
//
// Start reading at BootOpts and Lab.
package topology
