package shaped

import (
	"cmp"
	"time"

	"provium/internal/image"
	"provium/internal/userland"
)

// Programs returns the command that guests with the host's programs run before others are made of them, so that those
// have the files of common programs in memory and, where they are emulated, the code translated. It returns "" for
// other guests.
func Programs(spec *image.Spec) string {
	if spec.Userland.Kind != userland.Host {
		return ""
	}
	return "bash -c :; python3 -Bc 1; perl -e 1; :"
}

// Exercise returns the command that a guest runs before a template is made of it, if it is that of a cached boot: its
// copies have been there before. It returns "" for other guests.
func Exercise(spec *image.Spec, cached bool) string {
	if !cached {
		return ""
	}
	return cmp.Or(Programs(spec), ":")
}

const (
	readyTimeoutKVM = time.Minute
	readyTimeoutTCG = 5 * time.Minute
)

// ReadyTimeout returns what a guest has for what its boot waits for beside the agent, as instance.Config has it: set
// is what a profile says, 0 without a word.
func ReadyTimeout(set time.Duration, accel string) time.Duration {
	switch {
	case set != 0:
		return set
	case accel == "kvm":
		return -readyTimeoutKVM
	}
	return -readyTimeoutTCG
}
