package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"provium/internal/qmp"
)

const (
	displayID = "display" // the adapter's name in QEMU

	videoMiB    = 8          // of the adapter's memory
	videoMemory = "vga.vram" // its name in a saved state, behind the adapter's place

	keyboardStatus = "i /b 0x64" // reads the status register of the keyboard's controller
	outputFull     = 1           // its bit for a byte that the guest has not read

	maxPixmap = 64 << 20 // bytes of a picture
)

// displayDevice is a VGA adapter.
type displayDevice struct {
	Driver string `json:"driver"` // VGA
	ID     string `json:"id"`
	Addr   string `json:"addr,omitempty"`
	Memory int    `json:"vgamem_mb"`
}

// displaySlot is the adapter's place on the root bus, the one that all other devices leave free.
func (c *Config) displaySlot() int {
	if c.rootBus() == "pci.0" {
		return 0x1f
	}
	return 1
}

func (c *Config) displayDevice() displayDevice {
	return displayDevice{Driver: "VGA", ID: displayID, Addr: slot(c.displaySlot()), Memory: videoMiB}
}

// errNoDisplay is returned for a machine without a display.
var errNoDisplay = errors.New("the machine has no display: the profile key or boot option `display` adds one")

// Screen returns what the display shows, as a portable pixmap (P6).
func (m *Machine) Screen(ctx context.Context) ([]byte, error) {
	if !m.cfg.Shape.HasDisplay() {
		return nil, errNoDisplay
	}
	return m.written(ctx, "screen", maxPixmap, func(path string) error {
		return m.monitor().screenDump(ctx, displayID, path)
	})
}

// written returns what a command of the monitor writes to a file of that name.
func (m *Machine) written(ctx context.Context, name string, most int64, write func(path string) error) ([]byte, error) {
	path := filepath.Join(m.cfg.Dir, name)
	defer os.Remove(path)
	if err := write(path); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, nameFullDisk(err, m.cfg.Dir)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("QEMU has written more than %d bytes", most)
	}
	return data, err
}

// Key presses or releases a key of the keyboard, by QEMU's name.
func (m *Machine) Key(ctx context.Context, name string, down bool) error {
	return m.monitor().sendKey(ctx, name, down)
}

// KeysTaken reports whether the guest has read all that the keyboard has sent.
func (m *Machine) KeysTaken(ctx context.Context) (bool, error) {
	text, err := m.monitor().hmp(ctx, keyboardStatus)
	if err != nil {
		return false, err
	}
	var port, status int
	if _, err := fmt.Sscanf(strings.TrimSpace(text), "portb[%v] = %v", &port, &status); err != nil {
		return false, fmt.Errorf("the keyboard's controller cannot be read: %q", text)
	}
	return status&outputFull == 0, nil
}

// pciDevice is a device as `query-pci` describes it.
type pciDevice struct {
	ID      string `json:"qdev_id"`
	Regions []struct {
		Number  int   `json:"bar"`
		Address int64 `json:"address"`
		Size    int64 `json:"size"`
	} `json:"regions"`
}

// pciBus is a bus as `query-pci` describes it.
type pciBus struct {
	Devices []pciDevice `json:"devices"`
}

func queryPCI(out *[]pciBus) qmp.Command { return qmp.Command{Name: "query-pci", Out: out} }

// savedVideo returns the memory of the display as sections of a saved state: what of it the guest has changed since
// it was restored is not in the state that it was restored from. origin is that state. Machines without a display get
// nothing.
func (m *Machine) savedVideo(ctx context.Context, origin []byte) ([]byte, error) {
	if !m.cfg.Shape.HasDisplay() {
		return nil, nil
	}
	var buses []pciBus
	if err := m.monitor().all(ctx, queryPCI(&buses)); err != nil {
		return nil, err
	}
	at, err := videoAddress(buses)
	if err != nil {
		return nil, err
	}
	video, err := m.written(ctx, "video", videoMiB<<20, func(path string) error {
		return m.monitor().saveMemory(ctx, at, videoMiB<<20, path)
	})
	if err != nil {
		return nil, err
	}
	if len(video) != videoMiB<<20 {
		return nil, fmt.Errorf("a display with %d bytes of memory", len(video))
	}
	return memorySection(origin, fmt.Sprintf("0000:00:%02x.0/%s", m.cfg.displaySlot(), videoMemory), video)
}

// videoAddress returns where the guest has the memory of the display.
func videoAddress(buses []pciBus) (int64, error) {
	for _, bus := range buses {
		for _, device := range bus.Devices {
			if device.ID != displayID {
				continue
			}
			for _, r := range device.Regions {
				if r.Number == 0 && r.Address > 0 && r.Size == videoMiB<<20 {
					return r.Address, nil
				}
			}
		}
	}
	return 0, errors.New("the guest has the memory of its display switched off, which cannot be saved then")
}
