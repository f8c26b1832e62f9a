package hosttsc

const supported = true

// counter reads the time stamp counter (RDTSC).
func counter() uint64
