/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/log.h"

#include <stdarg.h>
#include <stdio.h>

void log_line(const struct log *log, enum log_level level, const char *format, ...)
{
	char line[512];
	if (!log || !log->write)
		return;
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log->write(log->context, level, line);
}
