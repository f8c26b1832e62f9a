// Package scene describes the world of a test at the moment of its failure: the rules of
// networks and disks, what runs in the background, and what the guests do.
//
// It changes nothing, and waits for guests no longer than its contexts allow. It decides
// nothing about results. Start with Rules; Stuck asks guests.
package scene
