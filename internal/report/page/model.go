package page

// Times are milliseconds since the first event of all streams, durations milliseconds.

// model is what page.js gets. Short names, since a page may have 50,000 tests.
type model struct {
	Title string   `json:"title"`
	Start int64    `json:"start"` // of the run, in milliseconds since 1970
	End   float64  `json:"end"`
	Lost  uint64   `json:"lost,omitempty"`
	Notes []string `json:"notes"`

	Runs     []*runOf     `json:"runs"`
	Files    []*fileOf    `json:"files"`
	Builds   []*buildOf   `json:"builds"`
	Pool     [][3]float64 `json:"pool"` // time, bytes and CPUs in use
	PoolSize [2]float64   `json:"poolSize"`
}

// runOf is one stream, or one iteration of it.
type runOf struct {
	Version     string  `json:"version"`
	Project     string  `json:"project"`
	Shard       string  `json:"shard,omitempty"`
	Iteration   uint32  `json:"iteration"`
	Seed        string  `json:"seed"` // a string: page.js has no integers of 64 bits
	Repeat      string  `json:"repeat,omitempty"`
	Accelerator string  `json:"accelerator,omitempty"`
	Start       float64 `json:"start"`
	Ms          float64 `json:"ms"`
	Exit        int     `json:"exit"` // -1: the stream ends before the run does
	NotStarted  uint32  `json:"notStarted,omitempty"`
	Interrupted bool    `json:"interrupted,omitempty"`
}

// fileOf is a test file in one run.
type fileOf struct {
	Run    int        `json:"run"`
	Path   string     `json:"path"`
	Status string     `json:"status"` // of event.FileStatus, "not started" or "unfinished"
	Error  string     `json:"error,omitempty"`
	Found  float64    `json:"found"`
	Start  float64    `json:"start"` // -1: it never started
	End    float64    `json:"end"`
	Waits  []*waitOf  `json:"waits,omitempty"`
	Tests  []*testOf  `json:"tests"`
	Guests []*guestOf `json:"guests,omitempty"`
	Marks  []*markOf  `json:"marks,omitempty"`
	// Scope has what happened at file scope.
	Scope *detailOf `json:"scope,omitempty"`
}

type waitOf struct {
	At     float64 `json:"at"`
	Reason string  `json:"reason"`
}

// testOf is a test. Status is passed, failed, skipped, flaky (failed first, passed in the
// end) or unfinished.
type testOf struct {
	Name   string    `json:"name"`
	Status string    `json:"status"`
	Start  float64   `json:"start"`
	Ms     float64   `json:"ms"`
	Where  string    `json:"where,omitempty"`
	Text   string    `json:"text,omitempty"` // why it failed or was skipped
	Tags   []string  `json:"tags,omitempty"`
	Spec   []string  `json:"spec,omitempty"`
	Detail *detailOf `json:"detail,omitempty"`
}

// detailOf is what a test has done and left behind.
type detailOf struct {
	Log     []string    `json:"log,omitempty"`
	Output  string      `json:"output,omitempty"`
	Console string      `json:"console,omitempty"`
	Tries   []*tryOf    `json:"tries,omitempty"`
	Steps   []*stepOf   `json:"steps,omitempty"`
	Ops     []*opOf     `json:"ops,omitempty"`
	OpsCut  int         `json:"opsCut,omitempty"` // operations in the middle that are left out
	Files   []*attachOf `json:"files,omitempty"`
	Folder  string      `json:"folder,omitempty"` // with the evidence: a relative URL

	late []*opOf // the last operations, once the first are kept
}

type tryOf struct {
	Ms   float64 `json:"ms"`
	Text string  `json:"text"`
}

type stepOf struct {
	Name   string  `json:"name"`
	Start  float64 `json:"start"`
	Ms     float64 `json:"ms"` // -1: it has not ended
	Failed bool    `json:"failed,omitempty"`
	Depth  int     `json:"depth"`
}

type opOf struct {
	Start  float64 `json:"start"`
	Ms     float64 `json:"ms"`
	VM     string  `json:"vm,omitempty"`
	Call   string  `json:"call"`
	Where  string  `json:"where,omitempty"`
	Failed bool    `json:"failed,omitempty"`
	Result string  `json:"result,omitempty"`
	Output string  `json:"output,omitempty"`
}

type attachOf struct {
	Name string `json:"name"`
	Size uint64 `json:"size"`
	Data []byte `json:"data,omitempty"`
}

// guestOf is a guest from its boot to its end.
type guestOf struct {
	VM      string  `json:"vm"`
	Profile string  `json:"profile,omitempty"`
	Source  string  `json:"source,omitempty"`
	Begin   float64 `json:"begin"` // of the boot
	Up      float64 `json:"up"`    // -1: it never was
	Down    float64 `json:"down"`  // -1: it still was when the stream ended
	Reason  string  `json:"reason,omitempty"`
	Console string  `json:"console,omitempty"`
}

// markOf is a moment of the timeline.
type markOf struct {
	At   float64 `json:"at"`
	Kind string  `json:"kind"` // network, disk, fault, clock, kernel, fixture
	VM   string  `json:"vm,omitempty"`
	Text string  `json:"text"`
}

// buildOf is the build of a profile, a download or the build of a fixture.
type buildOf struct {
	Kind  string  `json:"kind"`
	Name  string  `json:"name"`
	Start float64 `json:"start"`
	Ms    float64 `json:"ms"` // -1: it has not ended
	Error string  `json:"error,omitempty"`
}
