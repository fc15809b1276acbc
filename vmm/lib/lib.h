/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of libwisp share: errors, options, strings, time. Each larger module has a header of its own.
 */
#ifndef WISP_LIB_H
#define WISP_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "wisp.h"

#define LIB_STRING(x) #x
#define LIB_VERSION_STRING(major, minor, patch) LIB_STRING(major) "." LIB_STRING(minor) "." LIB_STRING(patch)
/* "0.1.0" */
#define LIB_VERSION LIB_VERSION_STRING(WISP_VERSION_MAJOR, WISP_VERSION_MINOR, WISP_VERSION_PATCH)

#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL

/* ---- error.c ---- */

/* Fills *error (may be NULL) and returns -errnum. The line is made printable: it may quote the guest. */
int lib_fail(struct wisp_error *error, enum wisp_status status, int errnum, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
/* The same for a failed system call: the line ends with the errno's text. ENOMEM gets its own status. */
int lib_fail_errno(struct wisp_error *error, int errnum, const char *format, ...) __attribute__((format(printf, 3, 4)));
int lib_no_memory(struct wisp_error *error);
/* Whether a public call's argument `name`, which it requires, is NULL; then *error says so, and the call is -EINVAL. */
bool lib_is_null(const void *argument, const char *name, struct wisp_error *error);
/* Copies into `to` with control characters and invalid UTF-8 as '?', cut to fit, NUL-terminated. */
void lib_printable(char *to, size_t size, const void *from, size_t length);

/* ---- options.c ---- */

/*
 * Copies a caller's options of any version over `to`, of `size` bytes, which is zeroed first. `from` may be NULL. Both
 * begin with the size_t that holds their size.
 */
int lib_copy_options(void *to, size_t size, const void *from, const char *what, struct wisp_error *error);
int lib_check_name(const char *name, struct wisp_error *error);
/* NULL-terminated "NAME=value" strings; NULL is fine. */
int lib_check_env(const char *const *env, struct wisp_error *error);
int lib_check_absolute(const char *path, const char *what, struct wisp_error *error);
int lib_check_line(const char *text, const char *what, struct wisp_error *error);
int lib_check_duration(int64_t ms, const char *what, struct wisp_error *error);
/* RLIMIT_* of a name, or -1. */
int lib_rlimit_number(const char *name);
int lib_check_exec_options(const struct wisp_exec_options *options, struct wisp_error *error);

/* ---- util.c ---- */

int64_t lib_now_ns(void); /* CLOCK_MONOTONIC */
/* now + ms, saturated; a negative ms is "never", INT64_MAX. */
int64_t lib_deadline_ns(int64_t ms);
/* What poll(2) takes to wait until the deadline, rounded up; -1 for never. */
int lib_poll_ms(int64_t deadline_ns);
bool lib_is_utf8(const void *data, size_t length, size_t *valid_length);
/* Writes all of it, or returns -errno. For files. */
int lib_write_all(int fd, const void *data, size_t length);
/* The whole of a small file, NUL-terminated; NULL with errno set; EFBIG beyond `limit`. */
char *lib_read_file(int dirfd, const char *path, size_t limit, size_t *length);
int lib_make_dirs(const char *path, struct wisp_error *error);
void lib_random(void *to, size_t length);
/* `path` made absolute against the working directory; symbolic links stay. NULL when memory is out. */
char *lib_absolute(const char *path);

/* A string under construction. A failed allocation is remembered: check `failed` at the end. */
struct lib_string {
	char *text;
	size_t length;
	size_t capacity;
	bool failed;
};
void lib_string_add(struct lib_string *string, const void *data, size_t length);
void lib_string_format(struct lib_string *string, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
