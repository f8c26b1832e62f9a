package sys

// SyncEmpty is the sync point of an agent that has read all that its port had: more fits into it.
func SyncEmpty() { syncEmpty() }

// SyncSent is the sync point of an agent that has written to its port. The host has read that
// when it returns.
func SyncSent() { syncSent() }

// SyncTick is a sync point at which nothing has happened but that time has passed.
func SyncTick() { syncTick() }
