package event

// TestStarted precedes every test's result, also that of a skipped test.
type TestStarted struct {
	Path string `msgpack:"path"`
	Name string `msgpack:"name"`
	Meta Meta   `msgpack:"meta"`
	// Where is the file and line at which the test was registered.
	Where string `msgpack:"where"`
}

// TestPassed is a test's result.
type TestPassed struct {
	Path       string   `msgpack:"path"`
	Name       string   `msgpack:"name"`
	DurationNS uint64   `msgpack:"duration_ns"`
	Meta       Meta     `msgpack:"meta"`
	Log        []string `msgpack:"log"`
}

// TestFailed is a test's result.
type TestFailed struct {
	Path       string `msgpack:"path"`
	Name       string `msgpack:"name"`
	DurationNS uint64 `msgpack:"duration_ns"`
	// Reason has the message on its first lines; difference, traceback and the
	// last operations follow.
	Reason string `msgpack:"reason"`
	// ConsoleExcerpt is the end of the consoles of the test's VMs, may be empty.
	ConsoleExcerpt string   `msgpack:"console_excerpt"`
	Meta           Meta     `msgpack:"meta"`
	Log            []string `msgpack:"log"`
	// Artifacts is the folder with the evidence of the failure. It is empty if nothing was kept.
	Artifacts string `msgpack:"artifacts"`
}

// TestSkipped is a test's result.
type TestSkipped struct {
	Path   string `msgpack:"path"`
	Name   string `msgpack:"name"`
	Reason string `msgpack:"reason"`
	Meta   Meta   `msgpack:"meta"`
}

// TestRetried is a run of a test that failed and is repeated. Another attempt, or the
// result, follows.
type TestRetried struct {
	Path string `msgpack:"path"`
	Name string `msgpack:"name"`
	// Attempt is the number of the run that failed, from 1.
	Attempt        uint32   `msgpack:"attempt"`
	DurationNS     uint64   `msgpack:"duration_ns"`
	Reason         string   `msgpack:"reason"`
	ConsoleExcerpt string   `msgpack:"console_excerpt"`
	Log            []string `msgpack:"log"`
	// Artifacts is as in [TestFailed].
	Artifacts string `msgpack:"artifacts"`
}

// TestLog is an entry of a test's log, when it is made. The result has all of them.
type TestLog struct {
	Path string `msgpack:"path"`
	Name string `msgpack:"name"`
	Text string `msgpack:"text"`
}

// TestOutput is what Lua code of a file has printed, in lines.
type TestOutput struct {
	Path string `msgpack:"path"`
	// Name is that of the test, empty for the chunk.
	Name string `msgpack:"name"`
	// Stream is "stdout" or "stderr".
	Stream string `msgpack:"stream"`
	Text   string `msgpack:"text"`
}

// TestAttachment is a file that a test adds to its report.
type TestAttachment struct {
	Path string `msgpack:"path"`
	Name string `msgpack:"name"`
	// Attachment is the name of the file in the report.
	Attachment string `msgpack:"attachment"`
	// Source is the path of the file on the host, empty for bytes that a test gave.
	Source string `msgpack:"source"`
	// Size is the whole size, in bytes.
	Size uint64 `msgpack:"size"`
	// Data is the content, or its first [MaxAttachment] bytes.
	Data []byte `msgpack:"data"`
}

// StepStarted is emitted when a step of a test begins. Steps nest.
type StepStarted struct {
	Path  string `msgpack:"path"`
	Name  string `msgpack:"name"`
	Step  string `msgpack:"step"`
	Where string `msgpack:"where"`
}

// StepEnded ends the latest step of that name.
type StepEnded struct {
	Path       string `msgpack:"path"`
	Name       string `msgpack:"name"`
	Step       string `msgpack:"step"`
	DurationNS uint64 `msgpack:"duration_ns"`
	Failed     bool   `msgpack:"failed"`
}
