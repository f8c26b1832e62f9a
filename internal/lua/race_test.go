//go:build race

package lua

// raceEnabled: the detector keeps memory of its own for every address ever used.
const raceEnabled = true
