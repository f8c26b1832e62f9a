package event

// FixtureBuildStarted names the fixture being built.
type FixtureBuildStarted struct {
	Path string `msgpack:"path"`
}

// FixtureBuildWaiting is emitted when a file waits for another file's build.
type FixtureBuildWaiting struct {
	Path       string `msgpack:"path"`
	HeldByFile string `msgpack:"held_by_file"`
}

// FixtureBuildDone ends a build, also a failed one.
type FixtureBuildDone struct {
	Path       string `msgpack:"path"`
	DurationNS uint64 `msgpack:"duration_ns"`
	// SnapshotBytes is the size on disk, 0 after a failed build.
	SnapshotBytes uint64 `msgpack:"snapshot_bytes"`
}

// FixtureCacheHit is emitted when a restore from the cache has succeeded.
type FixtureCacheHit struct {
	Path string `msgpack:"path"`
}

// ProfileBuildStarted is emitted when the build command of a profile starts.
type ProfileBuildStarted struct {
	Profile string `msgpack:"profile"`
	Command string `msgpack:"command"`
}

// ProfileBuildOutput is what a build command prints, in lines.
type ProfileBuildOutput struct {
	Profile string `msgpack:"profile"`
	Text    string `msgpack:"text"`
}

// ProfileBuildDone ends a build, also a failed one.
type ProfileBuildDone struct {
	Profile    string `msgpack:"profile"`
	DurationNS uint64 `msgpack:"duration_ns"`
	// Error is why the build failed, or empty.
	Error string `msgpack:"error"`
}

// DownloadStarted is emitted when something is fetched from the network.
type DownloadStarted struct {
	// What names it, like a package.
	What string `msgpack:"what"`
}

// DownloadProgress is emitted at most twice a second during a download.
type DownloadProgress struct {
	What      string `msgpack:"what"`
	DoneBytes uint64 `msgpack:"done_bytes"`
	// TotalBytes is 0 while it is not known.
	TotalBytes uint64 `msgpack:"total_bytes"`
}

// DownloadDone ends a download, also a failed one.
type DownloadDone struct {
	What       string `msgpack:"what"`
	DurationNS uint64 `msgpack:"duration_ns"`
	// Error is why it failed, or empty.
	Error string `msgpack:"error"`
}
