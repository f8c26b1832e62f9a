// Package sharedcache keeps entries of the local caches (booted guests, fixtures, kernels,
// initrds, userlands, the history of test files) as OCI artifacts in a registry or in an OCI layout directory, and
// brings them back.
//
// Each entry is an image of its own, under a tag that is made of its kind and key. So two
// pushes at once never write the same tag with different contents, and no index has to be
// merged. Only the history of test files changes under its tag: the last push wins, and no
// result depends on it. Contents are cut into chunks of ChunkSize at fixed offsets, each a zstd layer, so
// that equal chunks of different entries move and are stored once, and zeroes never.
//
// It does not know what is in an entry, nor whether an entry is valid: the local caches
// verify what is brought as they verify what they have made. Everything that comes from a
// registry is bounded, verified against its digest, and only then used.
//
// Start reading at the format in entry.go, then Push and Pull.
package sharedcache
