/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names for how a sandbox ended. The monitor says "exit NAME TEXT" on the status socket and in the file `state`; the
 * library reads it.
 */
#ifndef WISP_SHARED_END_H
#define WISP_SHARED_END_H

#include <stddef.h>
#include <string.h>

#include "wisp.h"

#define END_REASONS (WISP_END_IDLE_TIMEOUT + 1)

/* Returns "unknown" for a number that is not a reason. */
static inline const char *end_name(enum wisp_end end)
{
	static const char *const names[END_REASONS] = {
	        [WISP_END_UNKNOWN] = "unknown",
	        [WISP_END_POWEROFF] = "poweroff",
	        [WISP_END_REBOOT] = "reboot",
	        [WISP_END_PANIC] = "panic",
	        [WISP_END_TRIPLE_FAULT] = "triple-fault",
	        [WISP_END_BOOT_FAILED] = "boot-failed",
	        [WISP_END_BOOT_TIMEOUT] = "boot-timeout",
	        [WISP_END_KILLED] = "killed",
	        [WISP_END_INTERNAL] = "internal",
	        [WISP_END_MAX_DURATION] = "max-duration",
	        [WISP_END_IDLE_TIMEOUT] = "idle-timeout",
	};
	return names[(size_t)end < END_REASONS ? end : WISP_END_UNKNOWN];
}

/* Returns WISP_END_UNKNOWN for a name that is not a reason's. `name` need not be NUL-terminated. */
static inline enum wisp_end end_parse(const char *name, size_t length)
{
	for (int end = WISP_END_UNKNOWN; end < END_REASONS; end++) {
		const char *known = end_name((enum wisp_end)end);
		if (strlen(known) == length && memcmp(known, name, length) == 0)
			return (enum wisp_end)end;
	}
	return WISP_END_UNKNOWN;
}

#endif
