package lab

import (
	"provium/internal/blockdev"
	"provium/internal/blockdev/crash"
	"provium/internal/blockdev/fault"
	"provium/internal/disk"
	"provium/internal/qemu"
)

type (
	DiskSpec      = disk.Spec
	DiskModel     = qemu.DiskModel
	Disk          = disk.Disk
	DiskCut       = blockdev.Cut
	DiskCutResult = blockdev.CutResult
	DiskKeep      = blockdev.Keep
	DiskOp        = crash.Op
	DiskRequest   = fault.Op
	DiskPolicy    = fault.Policy
	DiskRange     = fault.Range
	DiskRule      = fault.Rule
	DiskEffect    = fault.Effect
	CrashOptions  = crash.Options
	Recording     = disk.Recording
	Exploration   = disk.Exploration
	CrashPoint    = disk.CrashPoint
	CrashKey      = disk.CrashKey
	Content       = disk.Content
)

const (
	SectorSize      = disk.SectorSize
	MaxDiskSize     = disk.MaxSize
	MaxDiskDelay    = disk.MaxDelay
	KeepNone        = blockdev.KeepNone
	KeepPrefix      = blockdev.KeepPrefix
	DiskRecordLimit = blockdev.RecordLimit
	DiskWrite       = crash.Write
	DiskFlush       = crash.Flush
	DiskMark        = crash.Mark
	WriteRequest    = fault.Write
)

var (
	CheckDiskID  = disk.CheckID
	DiskFormats  = disk.Formats
	DiskKeeps    = blockdev.Keeps
	DiskRequests = fault.CountOps
)
