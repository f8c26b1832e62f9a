package wire

// Numbers of the system calls that operations of the host are made of. A Syscall with
// Portable set has one of them, and its agent makes that call, whatever number it has on
// the guest's architecture. They are those of x86-64.
const (
	CallRead            = 0
	CallWrite           = 1
	CallClose           = 3
	CallLseek           = 8
	CallIoctl           = 16
	CallGetpid          = 39
	CallFcntl           = 72
	CallTruncate        = 76
	CallFtruncate       = 77
	CallFchmod          = 91
	CallMount           = 165
	CallUmount2         = 166
	CallSetxattr        = 188
	CallLsetxattr       = 189
	CallGetxattr        = 191
	CallLgetxattr       = 192
	CallGetdents64      = 217
	CallOpenat          = 257
	CallMkdirat         = 258
	CallMknodat         = 259
	CallFchownat        = 260
	CallUnlinkat        = 263
	CallLinkat          = 265
	CallSymlinkat       = 266
	CallReadlinkat      = 267
	CallFchmodat        = 268
	CallProcessVMWritev = 311
	CallRenameat2       = 316
	CallStatx           = 332
)

// Flags of CallOpenat that have other values on some architectures.
const (
	OpenDirect    = 0x4000
	OpenLargeFile = 0x8000
	OpenDirectory = 0x10000
	OpenNoFollow  = 0x20000
)
