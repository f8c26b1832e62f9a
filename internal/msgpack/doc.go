// Package msgpack is the codec of everything that Provium encodes: the link to
// the guests (package wire), the event stream (package event) and the pipe
// between dispatcher and runner (package run). Values are appended to a slice
// (encode.go) and read with a Decoder (decode.go); AppendStruct and
// Decoder.Struct do that for plain Go structs (struct.go).
//
// Bytes are hostile: a Decoder compares every length with what is left of the
// message before anything is allocated, and stops at its first error. What a
// message means, and which of its values are valid, is for the callers. Of
// msgpack's types, extensions are not supported. Start with Decoder.
package msgpack
