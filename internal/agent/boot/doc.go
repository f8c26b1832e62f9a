// Package boot gets a guest ready for the agent: it loads the modules the link
// needs, finds and opens the link's port, writes the boot files, and tells the
// C program that is PID 1 (internal/agent/init) which init to become. It also
// keeps the agent in the root directory of whatever PID 1 is later.
//
// It serves no operation; that is package agent. Start with System in system.go,
// and with Prepare in handover.go for a guest whose PID 1 is ours.
package boot

// Paths in the image.
const (
	dir          = "/.provium"
	modulesDir   = dir + "/modules"
	earlyModules = dir + "/modules.early"
	lateModules  = dir + "/modules.late"
	filesDir     = dir + "/files"
	userlandFile = dir + "/userland"
	sharesFile   = dir + "/shares"
	manifest     = filesDir + "/manifest"
	newRoot      = dir + "/root"
	imageInit    = "/init"
)
