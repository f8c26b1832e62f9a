// Package pattern searches bytes that come piece by piece for a plain text or a
// Lua pattern.
//
// It compares, and says where a later search has to begin. It neither waits for bytes
// nor keeps them. Start reading at Pattern.
package pattern
