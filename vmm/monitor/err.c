/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/err.h"

#include <stdarg.h>
#include <stdio.h>

int err_set(struct err *err, int errnum, const char *format, ...)
{
	if (err && err->errnum == 0) {
		va_list args;
		va_start(args, format);
		err->errnum = errnum;
		vsnprintf(err->text, sizeof(err->text), format, args);
		va_end(args);
	}
	return -errnum;
}
