package lab

import "provium/internal/console"

// Finding is a failure of a guest's kernel, as seen on its console.
type Finding = console.Finding
