// Package cachedir decides whether the directories and files of caches can be trusted:
// whether nobody but this user and root can have written them.
//
// It knows nothing of what is in a cache. docs/security.md says what is promised.
package cachedir
