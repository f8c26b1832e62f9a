// Package salvage takes what the guests of a failed test leave behind into the folder of the failure: their
// consoles, kernel logs, captures and disk recordings.
//
// It does not decide what has failed, and writes nothing but files of package artifacts. Start with Early,
// which takes what is gone when the test has been cleaned up, and Late.
package salvage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"provium/internal/artifacts"
	"provium/internal/disk"
	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/network"
	"provium/internal/parallel"
	"provium/internal/printk"
	"provium/internal/recording"
	"provium/internal/stream"
	"provium/internal/topology"
)

const (
	// askLimit is how long the logs of kernels may take, of all guests.
	askLimit = time.Second

	maxVMs       = 64        // of a failure, of which something is taken
	maxConsole   = 128 << 20 // bytes of a console
	maxKernelLog = 16 << 20
	maxCapture   = 128 << 20
	maxRecording = 256 << 20
	maxGuest     = 512 << 20 // of a file of a recorded guest
)

// Remains are what a failed test, or the chunk of a file, leaves behind.
type Remains struct {
	VMs []*lab.VM
	// Ending are those of the VMs that end with the test.
	Ending []*lab.VM
	// Silent says that a guest did not answer, so that no agent is asked for anything.
	Silent bool
	// Dump says that the memory of guests that hang or have died is taken.
	Dump bool
	// Last says that nothing of the test will run any more.
	Last bool
}

// Early takes what cleaning up removes: captures, the logs of kernels, and recordings of disks that end with the
// test.
func Early(ctx context.Context, f *artifacts.Folder, r Remains) {
	vms := r.VMs[:min(len(r.VMs), maxVMs)]
	for _, vm := range vms {
		_ = vm.Inspect().Mark(ctx, recording.Point{Text: recording.Failure, Mark: true}) // of one that has not ended
	}
	captures(f, vms)
	recordings(f, vms, r.Ending)
	kernelLogs(ctx, f, vms, r.Silent)
	if r.Dump {
		cores(ctx, f, vms)
	}
}

// maxCore is the most that is kept of a guest's memory, in bytes.
const maxCore = 16 << 30

// cores takes the memory of guests that hang or have died.
func cores(ctx context.Context, f *artifacts.Folder, vms []*lab.VM) {
	for _, vm := range vms {
		if !vm.Inspect().HasCore() {
			continue
		}
		f.Add("core-"+vm.Name()+".zst", "the memory of vm `"+vm.Name()+"` as an ELF core, for crash and drgn after "+
			"`zstd -d`", maxCore, func(w io.Writer) error { return vm.Inspect().TakeCore(ctx, w) })
	}
}

// Late takes the consoles, and the command lines that the guests' QEMU was started with, by VM.
func Late(f *artifacts.Folder, r Remains, starts map[string][]string) {
	for _, vm := range r.VMs[:min(len(r.VMs), maxVMs)] {
		text, err := vm.Console().ReadLog()
		what := fmt.Sprintf("all that the guests of vm `%s` have printed on their consoles", vm.Name())
		switch {
		case err != nil:
			f.Omit("the console of vm `"+vm.Name()+"`", err)
		case len(text) > 0:
			add(f, "console-"+vm.Name()+".log", what, maxConsole, text)
		}
	}
	guests(f, r)
	if len(r.VMs) > maxVMs {
		f.Omit("VMs", fmt.Errorf("only the first %d of %d are here", maxVMs, len(r.VMs)))
	}
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(starts)) {
		fmt.Fprintf(&lines, "# vm `%s`\n%s\n", name, shellLine(starts[name]))
	}
	if lines.Len() > 0 {
		add(f, "qemu.txt", "how QEMU was started for each VM; the descriptors in it exist only then", maxKernelLog,
			[]byte(lines.String()))
	}
}

// guests takes what is needed to run recorded guests again, of which it ends those that end with the test.
func guests(f *artifacts.Folder, r Remains) {
	for _, vm := range r.VMs[:min(len(r.VMs), maxVMs)] {
		tape, err := vm.Inspect().Tape()
		if tape == nil && err == nil {
			continue
		}
		if slices.Contains(r.Ending, vm) {
			vm.Inspect().EndRecording()
		}
		if err == nil && !tape.IsComplete() {
			err = errors.New("its guest is of file scope and goes on; boot it in the test")
		}
		if err == nil {
			text, _ := vm.Console().ReadLog() // without, the end of the recording will do
			panicked := bytes.Contains(text, []byte("Kernel panic - not syncing"))
			err = tape.Save(vm.DebugFile(), panicked, func(name, what string, write func(io.Writer) error) {
				f.Add(name, what, maxGuest, write)
			})
		}
		if err != nil {
			f.Omit("the recording of vm `"+vm.Name()+"`", err)
		}
	}
}

func add(f *artifacts.Folder, name, what string, most int64, data []byte) {
	f.Add(name, what, most, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// shellLine quotes the words of a command.
func shellLine(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\$&|;<>()*?[]{}#~`!") {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// captures takes the open captures of bridges and NICs.
func captures(f *artifacts.Folder, vms []*lab.VM) {
	seen := map[*stream.Stream]bool{}
	for _, vm := range vms {
		for _, s := range vm.Streams() {
			if seen[s] {
				continue
			}
			seen[s] = true
			file, whole, ok := network.CaptureFile(s)
			if !ok {
				continue
			}
			add(f, "capture.pcap", s.String(), maxCapture, file)
			if !whole {
				f.Omit(s.String(), errors.New("it was long, the first of what the test has read of it is missing"))
			}
		}
	}
}

// recordings takes the recordings of disks, of which it ends those of the VMs that end with the test.
func recordings(f *artifacts.Folder, vms, ending []*lab.VM) {
	for _, vm := range vms {
		for _, d := range vm.Disks() {
			r := d.LastRecording()
			if r == nil {
				continue
			}
			name := fmt.Sprintf("the recording of disk `%s` of vm `%s`", d.ID(), vm.Name())
			if err := diskRecording(f, r, "recording-"+vm.Name()+"-"+d.ID()+".rec", name,
				slices.Contains(ending, vm)); err != nil {
				f.Omit(name, err)
			}
		}
	}
}

// diskRecording takes one recording. ends says that its disk ends with the test.
func diskRecording(f *artifacts.Folder, r *disk.Recording, file, what string, ends bool) error {
	if r.Bytes() > maxRecording {
		return fmt.Errorf("it has %d bytes of data, more than %d", r.Bytes(), maxRecording)
	}
	why, err := r.Ended()
	if err != nil {
		return err
	}
	if why == "" && !ends {
		return errors.New("it goes on, since its disk is of file scope")
	}
	r.Stop()
	dir, err := os.MkdirTemp(f.Dir, ".recording-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := dir + "/saved"
	if err := r.Save(path); err != nil {
		return err
	}
	saved, err := os.Open(path)
	if err != nil {
		return err
	}
	defer saved.Close()
	f.Add(file, what+", for `disk:load_recording` and `disk:crash_points`", maxRecording, func(w io.Writer) error {
		_, err := io.Copy(w, saved)
		return err
	})
	return nil
}

// kernelLogs takes the logs of the guests' kernels, from their memory or else from their agents, unless one of these
// is silent.
func kernelLogs(ctx context.Context, f *artifacts.Folder, vms []*lab.VM, silent bool) {
	ctx, cancel := context.WithTimeoutCause(ctx, askLimit, fmt.Errorf("no answer within %v", askLimit))
	defer cancel()
	type answer struct {
		text []byte
		err  error
	}
	answers := make([]answer, len(vms))
	parallel.Each(vms, func(vm *lab.VM) error {
		if s := vm.State(); s == topology.Created || s == topology.Shutdown {
			return nil
		}
		var raw []byte
		records, err := vm.Inspect().KernelLog(ctx)
		if err == nil {
			raw = printk.AppendLines(nil, records)
		} else if vm.State() == topology.Booted && !vm.IsAgentless() && !silent {
			raw, err = vm.KernelLog(ctx)
		}
		if err == nil {
			raw, err = guest.LogFilter{Level: len(guest.LogLevels()) - 1}.Text(raw)
		}
		answers[slices.Index(vms, vm)] = answer{raw, err}
		return nil
	})
	for i, vm := range vms {
		switch a := answers[i]; {
		case a.err != nil:
			f.Omit("the log of the kernel of vm `"+vm.Name()+"`", a.err)
		case len(a.text) > 0:
			add(f, "dmesg-"+vm.Name()+".log", "the log of the kernel of vm `"+vm.Name()+"`", maxKernelLog, a.text)
		}
	}
}
