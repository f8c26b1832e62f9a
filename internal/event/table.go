package event

import "reflect"

// Kind implements [Event].
func (FileDiscovered) Kind() Kind { return KindFileDiscovered }
func (FileDiscovered) event()     {}

// Kind implements [Event].
func (FileBlocked) Kind() Kind { return KindFileBlocked }
func (FileBlocked) event()     {}

// Kind implements [Event].
func (FileDispatched) Kind() Kind { return KindFileDispatched }
func (FileDispatched) event()     {}

// Kind implements [Event].
func (FileCompleted) Kind() Kind { return KindFileCompleted }
func (FileCompleted) event()     {}

// Kind implements [Event].
func (TestStarted) Kind() Kind { return KindTestStarted }
func (TestStarted) event()     {}

// Kind implements [Event].
func (TestPassed) Kind() Kind { return KindTestPassed }
func (TestPassed) event()     {}

// Kind implements [Event].
func (TestFailed) Kind() Kind { return KindTestFailed }
func (TestFailed) event()     {}

// Kind implements [Event].
func (TestSkipped) Kind() Kind { return KindTestSkipped }
func (TestSkipped) event()     {}

// Kind implements [Event].
func (VMSpawned) Kind() Kind { return KindVMSpawned }
func (VMSpawned) event()     {}

// Kind implements [Event].
func (VMShutdown) Kind() Kind { return KindVMShutdown }
func (VMShutdown) event()     {}

// Kind implements [Event].
func (PoolState) Kind() Kind { return KindPoolState }
func (PoolState) event()     {}

// Kind implements [Event].
func (ClaimAcquired) Kind() Kind { return KindClaimAcquired }
func (ClaimAcquired) event()     {}

// Kind implements [Event].
func (ClaimReleased) Kind() Kind { return KindClaimReleased }
func (ClaimReleased) event()     {}

// Kind implements [Event].
func (FixtureBuildStarted) Kind() Kind { return KindFixtureBuildStarted }
func (FixtureBuildStarted) event()     {}

// Kind implements [Event].
func (FixtureBuildWaiting) Kind() Kind { return KindFixtureBuildWaiting }
func (FixtureBuildWaiting) event()     {}

// Kind implements [Event].
func (FixtureBuildDone) Kind() Kind { return KindFixtureBuildDone }
func (FixtureBuildDone) event()     {}

// Kind implements [Event].
func (FixtureCacheHit) Kind() Kind { return KindFixtureCacheHit }
func (FixtureCacheHit) event()     {}

// zeroEvent returns the zero value of the type that kind names, or nil.
func zeroEvent(k Kind) Event {
	switch k {
	case KindFileDiscovered:
		return FileDiscovered{}
	case KindFileBlocked:
		return FileBlocked{}
	case KindFileDispatched:
		return FileDispatched{}
	case KindFileCompleted:
		return FileCompleted{}
	case KindTestStarted:
		return TestStarted{}
	case KindTestPassed:
		return TestPassed{}
	case KindTestFailed:
		return TestFailed{}
	case KindTestSkipped:
		return TestSkipped{}
	case KindVMSpawned:
		return VMSpawned{}
	case KindVMShutdown:
		return VMShutdown{}
	case KindPoolState:
		return PoolState{}
	case KindClaimAcquired:
		return ClaimAcquired{}
	case KindClaimReleased:
		return ClaimReleased{}
	case KindFixtureBuildStarted:
		return FixtureBuildStarted{}
	case KindFixtureBuildWaiting:
		return FixtureBuildWaiting{}
	case KindFixtureBuildDone:
		return FixtureBuildDone{}
	case KindFixtureCacheHit:
		return FixtureCacheHit{}
	}
	return nil
}

// fieldName returns the payload key of a struct field.
func fieldName(t reflect.Type, i int) string {
	return t.Field(i).Tag.Get("msgpack")
}

// fieldIndex returns the index of the field with the given payload key, or -1.
func fieldIndex(t reflect.Type, key string) int {
	for i := range t.NumField() {
		if fieldName(t, i) == key {
			return i
		}
	}
	return -1
}

// validEnum reports whether v is a value its named string type allows; types
// without a closed set of values allow everything.
func validEnum(v any) bool {
	switch v := v.(type) {
	case BlockReason:
		return v == BlockedPoolFull || v == BlockedPSIPressure || v == BlockedJobsLimit
	case FileStatus:
		return v == FilePassed || v == FileFailed || v == FileTimedOut || v == FileCrashed
	}
	return true
}
