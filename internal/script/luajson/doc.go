// Package luajson encodes Lua values as JSON and decodes JSON into Lua values: the
// functions json.encode and json.decode.
//
// It does not use encoding/json, which has no exact 64-bit integers without a type to
// decode into, replaces bytes that are not UTF-8, and drops the difference between 1
// and 1.0.
//
// Start reading with [Encode] and [Decode].
package luajson
