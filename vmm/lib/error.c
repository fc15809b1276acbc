/* SPDX-License-Identifier: Apache-2.0 */
/* Errors and the names of enumerators. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/lib/lib.h"
#include "vmm/shared/end.h"
#include "vmm/shared/jail_layers.h"
#include "vmm/shared/utf8.h"

static int fail_va(
        struct wisp_error *error, enum wisp_status status, int errnum, bool add_errno, const char *format, va_list ap)
{
	if (!error)
		return -errnum;
	char text[2 * sizeof(error->message)];
	int length = vsnprintf(text, sizeof(text), format, ap);
	if (length < 0)
		length = 0;
	if ((size_t)length >= sizeof(text))
		length = sizeof(text) - 1;
	if (add_errno) {
		const char *why = strerrordesc_np(errnum);
		length += snprintf(text + length, sizeof(text) - (size_t)length, ": %s", why ? why : "unknown error");
		if ((size_t)length >= sizeof(text))
			length = sizeof(text) - 1;
	}
	*error = (struct wisp_error){.status = status, .errnum = errnum};
	lib_printable(error->message, sizeof(error->message), text, (size_t)length);
	return -errnum;
}

int lib_fail(struct wisp_error *error, enum wisp_status status, int errnum, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int result = fail_va(error, status, errnum, false, format, ap);
	va_end(ap);
	return result;
}

int lib_fail_errno(struct wisp_error *error, int errnum, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	enum wisp_status status = errnum == ENOMEM ? WISP_ERR_NO_MEMORY : WISP_ERR_SYSTEM;
	int result = fail_va(error, status, errnum, true, format, ap);
	va_end(ap);
	return result;
}

int lib_no_memory(struct wisp_error *error)
{
	return lib_fail(error, WISP_ERR_NO_MEMORY, ENOMEM, "out of memory");
}

bool lib_is_null(const void *argument, const char *name, struct wisp_error *error)
{
	if (!argument)
		lib_fail(error, WISP_ERR_INVALID, EINVAL, "the argument '%s' is NULL", name);
	return !argument;
}

/* The guest's text is shown on terminals: none of its escape sequences may remain. */
void lib_printable(char *to, size_t size, const void *from, size_t length)
{
	const unsigned char *bytes = from;
	size_t at = 0, n = 0;
	while (at < length && n + 1 < size) {
		size_t step = utf8_length(bytes + at, length - at);
		bool broken = step == 0;
		step += broken;
		bool control = bytes[at] < 0x20 || bytes[at] == 0x7f ||
		               (bytes[at] == 0xc2 && step == 2 && bytes[at + 1] < 0xa0);
		if (control || broken) {
			to[n++] = bytes[at] == '\n' || bytes[at] == '\t' ? ' ' : '?';
		} else {
			if (n + step + 1 > size)
				break;
			memcpy(to + n, bytes + at, step);
			n += step;
		}
		at += step;
	}
	if (size > 0)
		to[n] = '\0';
}

/* An index outside the table comes from another version or from the guest. */
#define NAME_OF(table, index) \
	((size_t)(index) < sizeof(table) / sizeof((table)[0]) && (table)[index] ? (table)[index] : "unknown")

const char *wisp_get_status_name(enum wisp_status status)
{
	static const char *const names[] = {
	        [WISP_OK] = "ok",
	        [WISP_ERR_INVALID] = "invalid",
	        [WISP_ERR_SYSTEM] = "system",
	        [WISP_ERR_NO_MEMORY] = "no_memory",
	        [WISP_ERR_NAME_TAKEN] = "name_taken",
	        [WISP_ERR_NO_SANDBOX] = "no_sandbox",
	        [WISP_ERR_NOT_RUNNING] = "not_running",
	        [WISP_ERR_STILL_RUNNING] = "still_running",
	        [WISP_ERR_IMAGE] = "image",
	        [WISP_ERR_SETUP] = "setup",
	        [WISP_ERR_BOOT_FAILED] = "boot_failed",
	        [WISP_ERR_BOOT_TIMEOUT] = "boot_timeout",
	        [WISP_ERR_DISCONNECTED] = "disconnected",
	        [WISP_ERR_PROTOCOL] = "protocol",
	        [WISP_ERR_VERSION] = "version",
	        [WISP_ERR_BUSY] = "busy",
	        [WISP_ERR_NO_SESSION] = "no_session",
	        [WISP_ERR_WRITER_TAKEN] = "writer_taken",
	        [WISP_ERR_EXEC_FAILED] = "exec_failed",
	        [WISP_ERR_TIMEOUT] = "timeout",
	        [WISP_ERR_OUTPUT_LIMIT] = "output_limit",
	        [WISP_ERR_NOT_UTF8] = "not_utf8",
	        [WISP_ERR_AGAIN] = "again",
	        [WISP_ERR_CANCELLED] = "cancelled",
	        [WISP_ERR_SESSION_ENDED] = "session_ended",
	        [WISP_ERR_NO_TERMINAL] = "no_terminal",
	        [WISP_ERR_DISK_BUSY] = "disk_busy",
	        [WISP_ERR_REFUSED] = "refused",
	        [WISP_ERR_SNAPSHOT] = "snapshot",
	};
	return NAME_OF(names, status);
}

const char *wisp_get_failure_name(enum wisp_failure failure)
{
	static const char *const names[] = {
	        [WISP_FAILURE_OTHER] = "other",
	        [WISP_FAILURE_NOT_FOUND] = "not_found",
	        [WISP_FAILURE_PERMISSION_DENIED] = "permission_denied",
	        [WISP_FAILURE_NOT_EXECUTABLE] = "not_executable",
	        [WISP_FAILURE_BAD_CWD] = "bad_cwd",
	        [WISP_FAILURE_BAD_ARGS] = "bad_args",
	        [WISP_FAILURE_RESOURCE_LIMIT] = "resource_limit",
	        [WISP_FAILURE_USER_SETUP_FAILED] = "user_setup_failed",
	        [WISP_FAILURE_OUT_OF_MEMORY] = "out_of_memory",
	        [WISP_FAILURE_PTY_SETUP_FAILED] = "pty_setup_failed",
	};
	return NAME_OF(names, failure);
}

const char *wisp_get_stage_name(enum wisp_stage stage)
{
	static const char *const names[] = {
	        [WISP_STAGE_REQUEST] = "request",
	        [WISP_STAGE_PIPE] = "pipe",
	        [WISP_STAGE_PTY] = "pty",
	        [WISP_STAGE_FORK] = "fork",
	        [WISP_STAGE_RLIMIT] = "rlimit",
	        [WISP_STAGE_USER] = "user",
	        [WISP_STAGE_CWD] = "cwd",
	        [WISP_STAGE_EXEC] = "exec",
	};
	return NAME_OF(names, stage);
}

const char *wisp_get_end_name(enum wisp_end end)
{
	return end_name(end);
}

const char *wisp_get_layer_name(enum wisp_jail_layer layer)
{
	return jail_layer_name(layer);
}

const char *wisp_get_errno_name(int errnum)
{
	const char *name = strerrorname_np(errnum);
	return name && errnum > 0 ? name : "";
}

const char *wisp_get_version(void)
{
	return LIB_VERSION;
}
