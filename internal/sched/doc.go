// Package sched admits files, and what they run, under one budget of memory
// and CPUs.
//
// It only counts. It starts nothing, measures nothing (callers tell it what is used), and
// does not know what is charged: callers pass names for messages.
//
// Start reading at Pool in pool.go; schedule.go decides who is next, by the rules in
// policy.go and what observe.go was told, and budget.go reads the budget of the host.
package sched

import (
	"fmt"
	"strings"
)

// Amount is a share of the budget. In a claim, zero means not given.
type Amount struct {
	// Memory is in bytes.
	Memory int64
	// CPUs are virtual CPUs.
	CPUs int
}

func (a Amount) plus(b Amount) Amount { return Amount{a.Memory + b.Memory, a.CPUs + b.CPUs} }

func (a Amount) minus(b Amount) Amount { return Amount{a.Memory - b.Memory, a.CPUs - b.CPUs} }

// String returns the amount for people, "1.5GiB and 2 CPUs".
func (a Amount) String() string {
	cpus := fmt.Sprintf("%d CPUs", a.CPUs)
	if a.CPUs == 1 {
		cpus = "1 CPU"
	}
	return formatBytes(a.Memory) + " and " + cpus
}

// given describes only the fields that are given, as of a claim.
func (a Amount) given() string {
	switch {
	case a.CPUs == 0:
		return formatBytes(a.Memory)
	case a.Memory == 0:
		return strings.TrimPrefix(a.String(), formatBytes(0)+" and ")
	}
	return a.String()
}

func formatBytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	s := fmt.Sprintf("%.2f", v)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + units[i]
}
