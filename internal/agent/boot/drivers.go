package boot

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// driver is a driver without which the kernel has no disk of some kind.
type driver struct {
	bus, name      string // in /sys/bus
	module, option string
}

// diskDrivers are the drivers of a disk, by the words for how it is connected.
var diskDrivers = map[string][]driver{
	"virtio-blk": {{"pci", "virtio-pci", "virtio_pci", "VIRTIO_PCI"},
		{"virtio", "virtio_blk", "virtio_blk", "VIRTIO_BLK"}},
	"virtio-scsi": {{"pci", "virtio-pci", "virtio_pci", "VIRTIO_PCI"},
		{"virtio", "virtio_scsi", "virtio_scsi", "SCSI_VIRTIO"}, {"scsi", "sd", "sd_mod", "BLK_DEV_SD"}},
	"nvme": {{"pci", "nvme", "nvme", "BLK_DEV_NVME"}},
}

// missingDriver returns an error if the kernel has no driver for disks of a bus, and will not get it: there is no
// such module, or nobody who would load it. A bus that is not known has all.
func (s *System) missingDriver(bus string) error {
	var modules, options []string
	for _, d := range diskDrivers[bus] {
		var st unix.Stat_t
		err := unix.Fstatat(s.sys, "bus/"+d.bus+"/drivers/"+d.name, &st, 0)
		if err == unix.ENOENT && !s.mayLoad(d.module) {
			modules, options = append(modules, fmt.Sprintf("%q", d.module)), append(options, "CONFIG_"+d.option)
		}
	}
	if modules == nil {
		return nil
	}
	return fmt.Errorf("the guest's kernel has no driver for disks on bus `%s` (%s): load it by modules = [%s] of the "+
		"profile", bus, strings.Join(options, ", "), strings.Join(modules, ", "))
}

// mayLoad reports whether somebody in the guest may load a module that a new device needs. Beside the minimal init
// there is nobody who does.
func (s *System) mayLoad(module string) bool {
	if s.minimal.Load() {
		return false
	}
	list, err := readAll(unix.AT_FDCWD, "/lib/modules/"+firstLine(s.proc, "sys/kernel/osrelease")+"/modules.dep")
	if err != nil {
		return false
	}
	for line := range strings.Lines(list) {
		file, _, _ := strings.Cut(line, ":")
		name, _, isModule := strings.Cut(path.Base(file), ".ko")
		if isModule && strings.ReplaceAll(name, "-", "_") == module {
			return true
		}
	}
	return false
}
