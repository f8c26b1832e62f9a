// Package preparation does what a run needs before its first file starts: it runs the build
// commands of profiles, and downloads and unpacks what the profiles of the selected files boot
// from. Nothing of that counts against a limit, and it fails once, not in each file.
//
// It boots nothing. Profiles that a file names only when it runs are resolved then. Start with
// Needed and Images.
package preparation
