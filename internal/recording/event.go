package recording

import "errors"

// OnEvent takes an event of the recorded guest's QEMU.
func (r *Recorder) OnEvent(name string) {
	if name == "RESET" {
		r.Break(errors.New("the guest was reset, and the connection of its next agent is not in the log"))
	}
}
