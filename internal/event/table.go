package event

import (
	"reflect"
	"slices"
	"sync"
)

// Kind implements [Event].
func (RunStarted) Kind() Kind { return KindRunStarted }

// Kind implements [Event].
func (RunCompleted) Kind() Kind { return KindRunCompleted }

// Kind implements [Event].
func (EventsLost) Kind() Kind { return KindEventsLost }

// Kind implements [Event].
func (FileDiscovered) Kind() Kind { return KindFileDiscovered }

// Kind implements [Event].
func (FileBlocked) Kind() Kind { return KindFileBlocked }

// Kind implements [Event].
func (FileDispatched) Kind() Kind { return KindFileDispatched }

// Kind implements [Event].
func (FileCompleted) Kind() Kind { return KindFileCompleted }

// Kind implements [Event].
func (PoolState) Kind() Kind { return KindPoolState }

// Kind implements [Event].
func (ClaimAcquired) Kind() Kind { return KindClaimAcquired }

// Kind implements [Event].
func (ClaimReleased) Kind() Kind { return KindClaimReleased }

// Kind implements [Event].
func (TestStarted) Kind() Kind { return KindTestStarted }

// Kind implements [Event].
func (TestPassed) Kind() Kind { return KindTestPassed }

// Kind implements [Event].
func (TestFailed) Kind() Kind { return KindTestFailed }

// Kind implements [Event].
func (TestSkipped) Kind() Kind { return KindTestSkipped }

// Kind implements [Event].
func (TestRetried) Kind() Kind { return KindTestRetried }

// Kind implements [Event].
func (TestLog) Kind() Kind { return KindTestLog }

// Kind implements [Event].
func (TestOutput) Kind() Kind { return KindTestOutput }

// Kind implements [Event].
func (TestAttachment) Kind() Kind { return KindTestAttachment }

// Kind implements [Event].
func (StepStarted) Kind() Kind { return KindStepStarted }

// Kind implements [Event].
func (StepEnded) Kind() Kind { return KindStepEnded }

// Kind implements [Event].
func (OperationStarted) Kind() Kind { return KindOperationStarted }

// Kind implements [Event].
func (OperationEnded) Kind() Kind { return KindOperationEnded }

// Kind implements [Event].
func (NetworkChanged) Kind() Kind { return KindNetworkChanged }

// Kind implements [Event].
func (DiskChanged) Kind() Kind { return KindDiskChanged }

// Kind implements [Event].
func (DiskFault) Kind() Kind { return KindDiskFault }

// Kind implements [Event].
func (ClockChanged) Kind() Kind { return KindClockChanged }

// Kind implements [Event].
func (VMBootStarted) Kind() Kind { return KindVMBootStarted }

// Kind implements [Event].
func (VMBootStage) Kind() Kind { return KindVMBootStage }

// Kind implements [Event].
func (VMBootFailed) Kind() Kind { return KindVMBootFailed }

// Kind implements [Event].
func (VMSpawned) Kind() Kind { return KindVMSpawned }

// Kind implements [Event].
func (VMShutdown) Kind() Kind { return KindVMShutdown }

// Kind implements [Event].
func (ConsoleOutput) Kind() Kind { return KindConsoleOutput }

// Kind implements [Event].
func (KernelReport) Kind() Kind { return KindKernelReport }

// Kind implements [Event].
func (FixtureBuildStarted) Kind() Kind { return KindFixtureBuildStarted }

// Kind implements [Event].
func (FixtureBuildWaiting) Kind() Kind { return KindFixtureBuildWaiting }

// Kind implements [Event].
func (FixtureBuildDone) Kind() Kind { return KindFixtureBuildDone }

// Kind implements [Event].
func (FixtureCacheHit) Kind() Kind { return KindFixtureCacheHit }

// Kind implements [Event].
func (ProfileBuildStarted) Kind() Kind { return KindProfileBuildStarted }

// Kind implements [Event].
func (ProfileBuildOutput) Kind() Kind { return KindProfileBuildOutput }

// Kind implements [Event].
func (ProfileBuildDone) Kind() Kind { return KindProfileBuildDone }

// Kind implements [Event].
func (DownloadStarted) Kind() Kind { return KindDownloadStarted }

// Kind implements [Event].
func (DownloadProgress) Kind() Kind { return KindDownloadProgress }

// Kind implements [Event].
func (DownloadDone) Kind() Kind { return KindDownloadDone }

func (RunStarted) event()          {}
func (RunCompleted) event()        {}
func (EventsLost) event()          {}
func (FileDiscovered) event()      {}
func (FileBlocked) event()         {}
func (FileDispatched) event()      {}
func (FileCompleted) event()       {}
func (PoolState) event()           {}
func (ClaimAcquired) event()       {}
func (ClaimReleased) event()       {}
func (TestStarted) event()         {}
func (TestPassed) event()          {}
func (TestFailed) event()          {}
func (TestSkipped) event()         {}
func (TestRetried) event()         {}
func (TestLog) event()             {}
func (TestOutput) event()          {}
func (TestAttachment) event()      {}
func (StepStarted) event()         {}
func (StepEnded) event()           {}
func (OperationStarted) event()    {}
func (OperationEnded) event()      {}
func (NetworkChanged) event()      {}
func (DiskChanged) event()         {}
func (DiskFault) event()           {}
func (ClockChanged) event()        {}
func (VMBootStarted) event()       {}
func (VMBootStage) event()         {}
func (VMBootFailed) event()        {}
func (VMSpawned) event()           {}
func (VMShutdown) event()          {}
func (ConsoleOutput) event()       {}
func (KernelReport) event()        {}
func (FixtureBuildStarted) event() {}
func (FixtureBuildWaiting) event() {}
func (FixtureBuildDone) event()    {}
func (FixtureCacheHit) event()     {}
func (ProfileBuildStarted) event() {}
func (ProfileBuildOutput) event()  {}
func (ProfileBuildDone) event()    {}
func (DownloadStarted) event()     {}
func (DownloadProgress) event()    {}
func (DownloadDone) event()        {}

// zeroEvent returns the zero value of the type that kind names, or nil.
func zeroEvent(k Kind) Event {
	switch k {
	case KindRunStarted:
		return RunStarted{}
	case KindRunCompleted:
		return RunCompleted{}
	case KindEventsLost:
		return EventsLost{}
	case KindFileDiscovered:
		return FileDiscovered{}
	case KindFileBlocked:
		return FileBlocked{}
	case KindFileDispatched:
		return FileDispatched{}
	case KindFileCompleted:
		return FileCompleted{}
	case KindPoolState:
		return PoolState{}
	case KindClaimAcquired:
		return ClaimAcquired{}
	case KindClaimReleased:
		return ClaimReleased{}
	case KindTestStarted:
		return TestStarted{}
	case KindTestPassed:
		return TestPassed{}
	case KindTestFailed:
		return TestFailed{}
	case KindTestSkipped:
		return TestSkipped{}
	case KindTestRetried:
		return TestRetried{}
	case KindTestLog:
		return TestLog{}
	case KindTestOutput:
		return TestOutput{}
	case KindTestAttachment:
		return TestAttachment{}
	case KindStepStarted:
		return StepStarted{}
	case KindStepEnded:
		return StepEnded{}
	}
	return zeroOfGuests(k)
}

// zeroOfGuests is zeroEvent for what happens in tests and guests, and for builds.
func zeroOfGuests(k Kind) Event {
	switch k {
	case KindOperationStarted:
		return OperationStarted{}
	case KindOperationEnded:
		return OperationEnded{}
	case KindNetworkChanged:
		return NetworkChanged{}
	case KindDiskChanged:
		return DiskChanged{}
	case KindDiskFault:
		return DiskFault{}
	case KindClockChanged:
		return ClockChanged{}
	case KindVMBootStarted:
		return VMBootStarted{}
	case KindVMBootStage:
		return VMBootStage{}
	case KindVMBootFailed:
		return VMBootFailed{}
	case KindVMSpawned:
		return VMSpawned{}
	case KindVMShutdown:
		return VMShutdown{}
	case KindConsoleOutput:
		return ConsoleOutput{}
	case KindKernelReport:
		return KernelReport{}
	case KindFixtureBuildStarted:
		return FixtureBuildStarted{}
	case KindFixtureBuildWaiting:
		return FixtureBuildWaiting{}
	case KindFixtureBuildDone:
		return FixtureBuildDone{}
	case KindFixtureCacheHit:
		return FixtureCacheHit{}
	case KindProfileBuildStarted:
		return ProfileBuildStarted{}
	case KindProfileBuildOutput:
		return ProfileBuildOutput{}
	case KindProfileBuildDone:
		return ProfileBuildDone{}
	case KindDownloadStarted:
		return DownloadStarted{}
	case KindDownloadProgress:
		return DownloadProgress{}
	case KindDownloadDone:
		return DownloadDone{}
	}
	return nil
}

// shape is what the codecs know of a struct: the payload keys of its fields, in their order.
type shape struct{ names []string }

// shapeOf returns the shape of a payload or of a struct in one. Tags are parsed once for
// each type, which takes longer than to decode an event.
func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{}
	for i := range t.NumField() {
		s.names = append(s.names, t.Field(i).Tag.Get("msgpack"))
	}
	shapes.Store(t, s)
	return s
}

// shapes are the results of shapeOf, by type.
var shapes sync.Map

// likely returns the key of a field, "" behind the last one.
func (s *shape) likely(i int) string {
	if i < len(s.names) {
		return s.names[i]
	}
	return ""
}

// index returns the number of the field with the given payload key, or -1. It is quick if
// that is the field with the number likely.
func (s *shape) index(key string, likely int) int {
	if s.likely(likely) == key && key != "" {
		return likely
	}
	return slices.Index(s.names, key)
}

// validEnum reports whether v is a value its named string type allows; types
// without a closed set of values allow everything.
func validEnum(v any) bool {
	switch v := v.(type) {
	case BlockReason:
		return v == BlockedPoolFull || v == BlockedPSIPressure || v == BlockedJobsLimit
	case FileStatus:
		return v == FilePassed || v == FileFailed || v == FileTimedOut || v == FileCrashed || v == FileInterrupted
	case BootSource:
		return v == BootCold || v == BootCache || v == BootSnapshot
	case BootStage:
		return v == StageAdmitted || v == StageImage || v == StageMachine || v == StageAgent
	case OperationStatus:
		return v == OperationOK || v == OperationFailed
	}
	return true
}
