//go:build !amd64

package hosttsc

const supported = false

func counter() uint64 { return 0 }
