// Package kerneltasks finds the tasks that run on the CPUs of a Linux kernel, in its memory.
//
// Each CPU has a copy of the kernel's per-CPU variables. The array __per_cpu_offset says how far the copy of each CPU
// is from the addresses of the symbols, one of which is a pointer to the task that the CPU runs. What is read may be
// forged; it costs a bounded number of steps. Tasks that do not run are not looked for.
//
// Start reading at Running.
package kerneltasks

import (
	"encoding/binary"
	"errors"

	"provium/internal/kallsyms"
	"provium/internal/kerneltypes"
)

// The symbols that are needed, of the last two one.
const (
	cpuOffsets  = "__per_cpu_offset"
	currentTask = "current_task"
	hotData     = "pcpu_hot" // Linux 6.2 to 6.14: a structure that begins with the pointer
)

// maxCPUs is how many CPUs a kernel can have.
const maxCPUs = 8192

// Running returns the process IDs of the tasks that run on CPUs, by the numbers of the CPUs; an idle CPU runs task 0.
// CPUs whose task cannot be read are left out.
func Running(m kallsyms.Memory, cpus []int) (map[int]uint32, error) {
	at, err := kallsyms.Find(m, cpuOffsets, currentTask, hotData, kerneltypes.Start, kerneltypes.Stop)
	if err != nil {
		return nil, err
	}
	pointer, ok := at[currentTask]
	if !ok {
		pointer, ok = at[hotData]
	}
	if !ok || at[cpuOffsets] == 0 {
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
	pidOffset, err := task.Offset("pid", 4)
	if err != nil {
		return nil, err
	}
	running := map[int]uint32{}
	for _, cpu := range cpus {
		if cpu < 0 || cpu >= maxCPUs {
			continue
		}
		if pid, err := runningOn(m, at[cpuOffsets]+8*uint64(cpu), pointer, uint64(pidOffset)); err == nil {
			running[cpu] = pid
		}
	}
	return running, nil
}

// runningOn returns the process ID of the task that a CPU runs. It follows three steps: the offset of the CPU's
// variables, which is stored at cpuOffset; the CPU's own pointer to its task; the ID in the task.
func runningOn(m kallsyms.Memory, cpuOffset, pointer, pidOffset uint64) (pid uint32, err error) {
	offset, err := readAddress(m, cpuOffset)
	if err != nil {
		return 0, err
	}
	task, err := readAddress(m, offset+pointer)
	if err != nil {
		return 0, err
	}
	var raw [4]byte
	err = m.Read(raw[:], task+pidOffset)
	return binary.LittleEndian.Uint32(raw[:]), err
}

func readAddress(m kallsyms.Memory, at uint64) (uint64, error) {
	var raw [8]byte
	err := m.Read(raw[:], at)
	return binary.LittleEndian.Uint64(raw[:]), err
}
