/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's log: a callback in an object, no process-wide state. A guest can cause log lines, so every source that
 * it reaches uses log_once: the first occurrence is written, the others are only counted.
 */
#ifndef WISP_MONITOR_LOG_H
#define WISP_MONITOR_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO };

struct log {
	/* Called from any thread; must not block for long. `line` has no newline and lives for the call only. */
	void (*write)(void *context, enum log_level level, const char *line);
	void *context;
};

/* A NULL log, or one without a callback, discards. */
void log_line(const struct log *log, enum log_level level, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* For what a guest can repeat at will: `*seen` counts, and only the first occurrence is written. Any thread. */
#define log_once(log, seen, level, ...)                                   \
	do {                                                              \
		if (__atomic_fetch_add((seen), 1, __ATOMIC_RELAXED) == 0) \
			log_line((log), (level), __VA_ARGS__);            \
	} while (0)

#endif
