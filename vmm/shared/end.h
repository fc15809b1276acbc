/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a sandbox ended. The monitor says it as "exit NAME TEXT" on the status socket and in the file `state`; the
 * library reads it. enum wisp_end of wisp.h has the same numbers.
 */
#ifndef WISP_SHARED_END_H
#define WISP_SHARED_END_H

#include <stddef.h>
#include <string.h>

enum end_reason {
	END_UNKNOWN, /* never said: what a reader assumes where no reason is recorded */
	END_POWEROFF,
	END_REBOOT,
	END_PANIC,
	END_TRIPLE_FAULT,
	END_BOOT_FAILED,
	END_BOOT_TIMEOUT,
	END_KILLED,
	END_INTERNAL,
	END_REASONS,
};

/* Returns "unknown" for a number that is not a reason. */
static inline const char *end_name(enum end_reason end)
{
	static const char *const names[END_REASONS] = {
	        [END_UNKNOWN] = "unknown",
	        [END_POWEROFF] = "poweroff",
	        [END_REBOOT] = "reboot",
	        [END_PANIC] = "panic",
	        [END_TRIPLE_FAULT] = "triple-fault",
	        [END_BOOT_FAILED] = "boot-failed",
	        [END_BOOT_TIMEOUT] = "boot-timeout",
	        [END_KILLED] = "killed",
	        [END_INTERNAL] = "internal",
	};
	return names[(size_t)end < END_REASONS ? end : END_UNKNOWN];
}

/* Returns END_UNKNOWN for a name that is not a reason's. `name` need not be NUL-terminated. */
static inline enum end_reason end_parse(const char *name, size_t length)
{
	for (int end = END_UNKNOWN; end < END_REASONS; end++) {
		if (strlen(end_name((enum end_reason)end)) == length &&
		        memcmp(end_name((enum end_reason)end), name, length) == 0)
			return (enum end_reason)end;
	}
	return END_UNKNOWN;
}

#endif
