package lab

import "provium/internal/console"

// Finding is a guest failure seen on a console, for callers that see only this
// package.
type Finding = console.Finding
