package announce

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"provium/internal/disk"
	"provium/internal/event"
	"provium/internal/kernelreport"
)

// collect returns a VM, and its events without durations.
func collect() (*VM, *[]event.Event) {
	var got []event.Event
	return &VM{File: "f", Name: "n1", Profile: "p", Emit: func(e event.Event) {
		switch x := e.(type) {
		case event.VMBootStage:
			x.DurationNS = 0
			e = x
		case event.VMBootFailed:
			x.DurationNS = 0
			e = x
		case event.VMShutdown:
			x.DurationNS = 0
			e = x
		}
		got = append(got, e)
	}}, &got
}

func TestBoot(t *testing.T) {
	v, got := collect()
	done := v.Booting()
	v.Reached(event.StageMachine)
	g := &Guest{VM: v}
	g.Started(5, 7, true, true, nil)
	done(nil)
	v.Printed([]byte("a\n"))
	v.Reported(kernelreport.Finding{Title: "BUG", Excerpt: "BUG: x\n", Panic: true})
	g.Ended("panic")
	v.Booting()(errors.New("no agent"))
	want := []event.Event{
		event.VMBootStarted{File: "f", VMName: "n1", Profile: "p"},
		event.VMBootStage{File: "f", VMName: "n1", Stage: event.StageMachine},
		event.VMSpawned{File: "f", VMName: "n1", Profile: "p", MemoryBytes: 5, CID: 7, Source: event.BootCache},
		event.ConsoleOutput{File: "f", VMName: "n1", Text: "a\n"},
		event.KernelReport{File: "f", VMName: "n1", Title: "BUG", Text: "BUG: x\n", Panic: true},
		event.VMShutdown{File: "f", VMName: "n1", Reason: "panic"},
		event.VMBootStarted{File: "f", VMName: "n1", Profile: "p"},
		event.VMBootFailed{File: "f", VMName: "n1", Reason: "no agent"},
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
}

// A guest that ends before its start is announced has both announced, one that never
// starts has none.
func TestGuestEndsEarly(t *testing.T) {
	v, got := collect()
	early := &Guest{VM: v}
	early.Ended("gone")
	if len(*got) != 0 {
		t.Errorf("%+v", *got)
	}
	early.Started(1, 2, false, false, nil)
	want := []event.Event{
		event.VMSpawned{File: "f", VMName: "n1", Profile: "p", MemoryBytes: 1, CID: 2, Source: event.BootCold},
		event.VMShutdown{File: "f", VMName: "n1", Reason: "gone"},
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
}

// Faults that are alike are told once and then counted.
func TestFaults(t *testing.T) {
	v, got := collect()
	read, write := disk.Fault{By: "fail_reads", Effect: "EIO"}, disk.Fault{By: "inject", Effect: "torn"}
	read.Op, read.Off, read.N = "read", 4096, 1024
	write.Op, write.N = "write", 1
	v.met = map[faultKey]*event.DiskFault{{disk: "another"}: nil}
	v.faults = time.NewTimer(time.Hour)
	for range 3 {
		v.Fault("d", read)
	}
	v.Fault("d", write)
	v.flushFaults()
	(&Guest{VM: v}).Ended("")
	one := event.DiskFault{Path: "f", VMName: "n1", Disk: "d", Rule: "fail_reads", Op: "read", Sector: 8, Sectors: 2,
		Effect: "EIO", Count: 1}
	more := one
	more.Count = 2
	other := event.DiskFault{Path: "f", VMName: "n1", Disk: "d", Rule: "inject", Op: "write", Sectors: 1,
		Effect: "torn", Count: 1}
	if want := []event.Event{one, other, more}; !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
}
