package boot

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	keyPower  = 116
	keyMax    = 0x2ff
	eventKey  = 1
	eventSize = 24 // of struct input_event on 64-bit systems
	// terminationGrace is how long processes may take to end once asked to.
	terminationGrace = 2 * time.Second
)

// WatchPowerButton powers the guest off when its power button is pressed. It
// is for a guest whose PID 1 is the minimal init; others have their own way.
// The goroutines it starts end with the machine.
func (s *System) WatchPowerButton(report func(error)) {
	fd, err := unix.Openat(s.dev, "input", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // no input devices, no button
	}
	d := os.NewFile(uintptr(fd), "input")
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		report(fmt.Errorf("power button: %w", err))
		return
	}
	for _, n := range names {
		if !strings.HasPrefix(n, "event") {
			continue
		}
		in, err := unix.Openat(fd, n, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			report(fmt.Errorf("power button: open %s: %w", n, err))
			continue
		}
		if !hasPowerKey(in) {
			unix.Close(in)
			continue
		}
		go func() {
			if awaitKey(os.NewFile(uintptr(in), n)) {
				s.PowerOff(report)
			}
		}()
	}
}

func hasPowerKey(fd int) bool {
	var bits [keyMax/8 + 1]byte
	// EVIOCGBIT(EV_KEY, len)
	request := uintptr(2<<30 | len(bits)<<16 | 'E'<<8 | 0x20 + eventKey)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&bits)))
	return errno == 0 && bits[keyPower/8]&(1<<(keyPower%8)) != 0
}

// awaitKey returns true once the power key goes down, false when the device is
// gone.
func awaitKey(f *os.File) bool {
	defer f.Close()
	p := make([]byte, 16*eventSize)
	for {
		n, err := f.Read(p)
		if err != nil {
			return false
		}
		for e := p[:n]; len(e) >= eventSize; e = e[eventSize:] {
			kind := binary.NativeEndian.Uint16(e[16:])
			code := binary.NativeEndian.Uint16(e[18:])
			value := binary.NativeEndian.Uint32(e[20:])
			if kind == eventKey && code == keyPower && value == 1 {
				return true
			}
		}
	}
}

// PowerOff asks every process to end, waits a bounded time for that, writes
// out what is dirty and switches the machine off.
func (s *System) PowerOff(report func(error)) {
	_ = unix.Kill(-1, unix.SIGTERM)
	for deadline := time.Now().Add(terminationGrace); s.othersRun() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		report(fmt.Errorf("power off: %w", err))
	}
}

// othersRun says whether processes beside PID 1, the agent and the kernel's
// own are alive.
func (s *System) othersRun() bool {
	fd, err := unix.Openat(s.proc, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	d := os.NewFile(uintptr(fd), "proc")
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		// Kernel threads and zombies have no command line.
		if err == nil && pid != 1 && pid != os.Getpid() && firstLine(fd, n+"/cmdline") != "" {
			return true
		}
	}
	return false
}
