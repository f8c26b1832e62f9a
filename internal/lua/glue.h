// What Go sees of the C side. See state.h for its layers.
#ifndef PROVIUM_LUA_GLUE_H
#define PROVIUM_LUA_GLUE_H

#include <stdlib.h>

#include "call.h"
#include "life.h"
#include "object.h"
#include "trace.h"
#include "value.h"

#endif
