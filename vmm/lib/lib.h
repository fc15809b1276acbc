/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of libwisp share: errors, options, strings and time. Larger modules have headers of their own.
 */
#ifndef WISP_LIB_H
#define WISP_LIB_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "wisp.h"

#define LIB_STRING(x) #x
#define LIB_VERSION_STRING(major, minor, patch) LIB_STRING(major) "." LIB_STRING(minor) "." LIB_STRING(patch)
/* "0.2.0" */
#define LIB_VERSION LIB_VERSION_STRING(WISP_VERSION_MAJOR, WISP_VERSION_MINOR, WISP_VERSION_PATCH)

#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL

/* ---- error.c ---- */

/* Fills in *error, which may be NULL, and returns -errnum. The message is made printable: it may quote the guest. */
int lib_fail(struct wisp_error *error, enum wisp_status status, int errnum, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
/* The same for a failed system call: the errno's text ends the message. ENOMEM has a status of its own. */
int lib_fail_errno(struct wisp_error *error, int errnum, const char *format, ...) __attribute__((format(printf, 3, 4)));
int lib_no_memory(struct wisp_error *error);
/* Returns whether the argument `name`, which a public call requires, is NULL; *error says so. The call is -EINVAL. */
bool lib_is_null(const void *argument, const char *name, struct wisp_error *error);
/* Copies text with '?' for control characters and invalid UTF-8, truncated to fit and NUL-terminated. */
void lib_printable(char *to, size_t size, const void *from, size_t length);

/* ---- options.c ---- */

/*
 * Copies a caller's options, of any version, to `to`, which has `size` bytes and is zeroed first. `from` may be NULL.
 * Both begin with a size_t that holds their size.
 */
int lib_copy_options(void *to, size_t size, const void *from, const char *what, struct wisp_error *error);
/*
 * Copies element `i` of a caller's array, whose elements have `stride` bytes, in the same way. An element has no size
 * of its own.
 */
int lib_copy_element(
        void *to, size_t size, const void *array, size_t stride, size_t i, const char *what, struct wisp_error *error);
int lib_copy_rlimit(
        const struct wisp_exec_options *options, size_t i, struct wisp_rlimit *limit, struct wisp_error *error);
int lib_check_name(const char *name, struct wisp_error *error);
/* Checks "NAME=value" strings, ended by NULL. `env` may be NULL. */
int lib_check_env(const char *const *env, struct wisp_error *error);
int lib_check_absolute(const char *path, const char *what, struct wisp_error *error);
int lib_check_line(const char *text, const char *what, struct wisp_error *error);
/* `hostname` may be NULL. */
int lib_check_hostname(const char *hostname, struct wisp_error *error);
int lib_check_duration(int64_t ms, const char *what, struct wisp_error *error);
/* Returns the RLIMIT_* of a name, or -1. */
int lib_rlimit_number(const char *name);
struct lib_cancel;
/* Stores what *given says, or *otherwise if it is NULL. */
int lib_copy_cancel(struct lib_cancel *cancel, const struct wisp_cancel *given, const struct lib_cancel *otherwise,
        struct wisp_error *error);
struct lib_progress;
int lib_copy_progress(struct lib_progress *progress, const struct wisp_progress *given, struct wisp_error *error);
int lib_check_exec_options(const struct wisp_exec_options *options, struct wisp_error *error);

/* ---- util.c ---- */

/* struct wisp_cancel, checked. */
struct lib_cancel {
	bool has_fd;
	int fd;
	bool interruptible;
};
/*
 * Waits until one of at most 3 descriptors is ready, and returns 0. -ETIMEDOUT at the deadline, -ECANCELED or -EINTR if
 * the caller ends the wait, or another -errno. `cancel` may be NULL.
 */
int lib_poll(const struct lib_cancel *cancel, struct pollfd *pfds, size_t count, int64_t deadline_ns);
/* The error of a wait that lib_poll ended. */
int lib_fail_wait(struct wisp_error *error, int r);

/* 0, or -ECANCELED if the caller ends the call: for what works instead of waiting. `cancel` may be NULL. */
int lib_check_cancel(const struct lib_cancel *cancel);

/* struct wisp_progress, checked. */
struct lib_progress {
	void (*report)(void *context, uint64_t done, uint64_t total);
	void *context;
};
void lib_report(const struct lib_progress *progress, uint64_t done, uint64_t total);

int64_t lib_now_ns(void); /* CLOCK_MONOTONIC */
/* Returns now + ms, saturated. INT64_MAX is "never", which a negative ms gives. */
int64_t lib_deadline_ns(int64_t ms);
/* Returns the timeout with which poll(2) waits until the deadline, rounded up; -1 for never. */
int lib_poll_ms(int64_t deadline_ns);
bool lib_is_utf8(const void *data, size_t length, size_t *valid_length);
/* Writes all of it to a file, or returns -errno. */
int lib_write_all(int fd, const void *data, size_t length);
int lib_truncate(int fd, off_t size);
int lib_pwrite_all(int fd, const void *data, size_t length, off_t offset);
/* Renames within a directory. Never replaces anything, not even an empty directory. */
int lib_rename_new(int dir_fd, const char *from, const char *to);
/* Returns how much was read, less than `size` only at the end of the file, or -errno. */
ssize_t lib_pread(int fd, void *to, size_t size, off_t offset);
/* Whether the host lacks descriptors or memory, so that a call's failure says nothing about its object. */
bool lib_is_shortage(int errnum);
/* Returns the contents of a file, NUL-terminated, or NULL with errno set: EFBIG beyond `limit` bytes. */
char *lib_read_open_file(int fd, size_t limit, size_t *length);
char *lib_read_file(int dirfd, const char *path, size_t limit, size_t *length);
int lib_make_dirs(const char *path, struct wisp_error *error);
void lib_random(void *to, size_t length);
/* Makes `path` absolute, without resolving symbolic links. Returns NULL if out of memory. */
char *lib_absolute(const char *path);

/* A growing string. It remembers a failed allocation: check `failed` at the end. */
struct lib_string {
	char *text;
	size_t length;
	size_t capacity;
	bool failed;
};
void lib_string_add(struct lib_string *string, const void *data, size_t length);
void lib_string_format(struct lib_string *string, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
