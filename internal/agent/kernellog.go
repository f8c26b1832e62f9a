package agent

import (
	"golang.org/x/sys/unix"

	"provium/internal/agent/session"
	"provium/internal/wire"
)

// kernelLog reads the kernel's log, which it leaves as it is.
func kernelLog(o *session.Op) (wire.Value, error) {
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil {
		return nil, err
	}
	// As text the lines take more room than in the kernel's buffer.
	p := make([]byte, min(4*size, wire.MaxKernelLog))
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, p)
	if err != nil {
		return nil, err
	}
	v := &wire.FileValue{}
	if p = p[:n]; o.Inline(len(p)) {
		v.Data = p
		return v, nil
	}
	b := o.Buffer()
	defer o.Release(b)
	for len(p) > 0 {
		k := copy(b.Payload()[:wire.ChunkSize], p)
		p = p[k:]
		if err := o.Stream(wire.StreamData, b, k); err != nil {
			return nil, err
		}
	}
	return v, nil
}
