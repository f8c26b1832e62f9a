package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// savedNIC is a network interface in a snapshot.
type savedNIC struct {
	Bridge string `json:"bridge"`
	Slot   int    `json:"slot"`
	Name   string `json:"name"` // in the guest
}

func encodeNICs(nics []plannedNIC) ([]byte, error) {
	saved := make([]savedNIC, len(nics))
	for i, n := range nics {
		saved[i] = savedNIC{n.bridge, n.slot, n.ifname}
	}
	return json.Marshal(saved)
}

// decodeNICs reads what encodeNICs has written, or somebody else.
func decodeNICs(text []byte) ([]savedNIC, error) {
	var saved []savedNIC
	if err := json.Unmarshal(text, &saved); err != nil {
		return nil, fmt.Errorf("network interfaces: %w", err)
	}
	if len(saved) > qemu.MaxSlot {
		return nil, fmt.Errorf("network interfaces: %d, at most %d are possible", len(saved), qemu.MaxSlot)
	}
	for i, n := range saved {
		if n.Slot < 1 || n.Slot > qemu.MaxSlot || i > 0 && n.Slot <= saved[i-1].Slot {
			return nil, fmt.Errorf("network interfaces: slot %d", n.Slot)
		}
		if !ethName.MatchString(n.Name) || checkName("bridge", n.Bridge) != nil {
			return nil, errors.New("network interfaces: a name is none")
		}
	}
	return saved, nil
}

// savedNICs are the interfaces of a snapshot. They go back to the bridges of their
// names where the VM is, or may be, on these.
func (v *VM) savedNICs(r *snapshot.Reader) ([]plannedNIC, error) {
	if _, ok := r.Manifest().Sections[sectionNICs]; !ok {
		return nil, nil
	}
	text, err := r.Section(sectionNICs)
	if err != nil {
		return nil, err
	}
	saved, err := decodeNICs(text)
	if err != nil {
		return nil, err
	}
	planned := make([]plannedNIC, len(saved))
	for i, s := range saved {
		planned[i] = plannedNIC{v.rejoin(s.Bridge), s.Bridge, s.Slot, s.Name}
	}
	return planned, nil
}

// rejoin attaches the VM to the bridge of that name in its lab; nil when there is
// none, or it has no room.
func (v *VM) rejoin(bridge string) *NIC {
	for _, n := range v.attached() {
		if n.bridge.name == bridge {
			return n
		}
	}
	v.host.mu.Lock()
	bridges := slices.Clone(v.host.bridges)
	v.host.mu.Unlock()
	for _, b := range slices.Backward(bridges) {
		if vm, ok := b.owner.VM(v.name); b.name != bridge || !ok || vm != v {
			continue
		}
		if added, err := b.join([]Endpoint{{VM: v, Name: v.name}}); err == nil && len(added) == 1 {
			return added[0]
		}
	}
	return nil
}
