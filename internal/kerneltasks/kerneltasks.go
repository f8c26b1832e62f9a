// Package kerneltasks finds the tasks that run on the CPUs of a Linux kernel, in its memory.
//
// It reads no other tasks. What is read may be forged; it costs a bounded number of steps.
//
// Start reading at Running.
package kerneltasks

import (
	"encoding/binary"
	"errors"

	"provium/internal/kallsyms"
	"provium/internal/kerneltypes"
)

// maxCPUs is how many CPUs a kernel can have.
const maxCPUs = 8192

// Running returns the process ids of the tasks that run on CPUs, by the numbers of the CPUs; an idle one runs 0. CPUs
// whose task cannot be read are left out.
func Running(m kallsyms.Memory, cpus []int) (map[int]uint32, error) {
	const bases, current, hot = "__per_cpu_offset", "current_task", "pcpu_hot"
	at, err := kallsyms.Find(m, bases, current, hot, kerneltypes.Start, kerneltypes.Stop)
	if err != nil {
		return nil, err
	}
	place, ok := at[current]
	if !ok { // Linux 6.2 to 6.14 have the pointer in a structure, as its first field
		place, ok = at[hot]
	}
	if !ok || at[bases] == 0 {
		return nil, errors.New("the kernel does not say where its running tasks are")
	}
	types, err := kerneltypes.Read(m, at)
	if err != nil {
		return nil, err
	}
	task, err := types.Struct("task_struct", "pid")
	if err != nil {
		return nil, err
	}
	pid, err := task.Offset("pid", 4)
	if err != nil {
		return nil, err
	}
	running := map[int]uint32{}
	for _, cpu := range cpus {
		if cpu < 0 || cpu >= maxCPUs {
			continue
		}
		if id, err := runningOn(m, at[bases]+8*uint64(cpu), place, uint64(pid)); err == nil {
			running[cpu] = id
		}
	}
	return running, nil
}

// runningOn returns the process id of the task of a CPU, whose own memory begins where the number at base says.
func runningOn(m kallsyms.Memory, base, current, pid uint64) (uint32, error) {
	var raw [8]byte
	if err := m.Read(raw[:], base); err != nil {
		return 0, err
	}
	if err := m.Read(raw[:], binary.LittleEndian.Uint64(raw[:])+current); err != nil {
		return 0, err
	}
	err := m.Read(raw[:4], binary.LittleEndian.Uint64(raw[:])+pid)
	return binary.LittleEndian.Uint32(raw[:]), err
}
