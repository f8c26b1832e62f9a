#include "textflag.h"

// The displacement of each NOP is "PVS" and the kind of the point.

// func syncEmpty()
TEXT ·syncEmpty(SB), NOSPLIT, $0-0
	BYTE $0x66; BYTE $0x0f; BYTE $0x1f; BYTE $0x84; BYTE $0x00
	BYTE $'P'; BYTE $'V'; BYTE $'S'; BYTE $'e'
	RET

// func syncSent()
TEXT ·syncSent(SB), NOSPLIT, $0-0
	BYTE $0x66; BYTE $0x0f; BYTE $0x1f; BYTE $0x84; BYTE $0x00
	BYTE $'P'; BYTE $'V'; BYTE $'S'; BYTE $'s'
	RET

// func syncTick()
TEXT ·syncTick(SB), NOSPLIT, $0-0
	BYTE $0x66; BYTE $0x0f; BYTE $0x1f; BYTE $0x84; BYTE $0x00
	BYTE $'P'; BYTE $'V'; BYTE $'S'; BYTE $'t'
	RET
