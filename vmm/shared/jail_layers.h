/* SPDX-License-Identifier: Apache-2.0 */
/* Names for the layers of a monitor's jail: in the log, in messages, and for users. */
#ifndef WISP_SHARED_JAIL_LAYERS_H
#define WISP_SHARED_JAIL_LAYERS_H

#include "wisp.h"

#define JAIL_LAYERS 6u

_Static_assert(WISP_LAYER_ALL == (1u << JAIL_LAYERS) - 1, "a name for each");

/* Returns NULL for what is not a single layer. */
static inline const char *jail_layer_name(unsigned layer)
{
	switch (layer) {
	case WISP_LAYER_PRIVILEGES: return "privileges";
	case WISP_LAYER_NAMESPACES: return "namespaces";
	case WISP_LAYER_LIMITS: return "limits";
	case WISP_LAYER_LANDLOCK: return "landlock";
	case WISP_LAYER_SECCOMP: return "seccomp";
	case WISP_LAYER_IO_URING: return "io_uring";
	default: return NULL;
	}
}

#endif
