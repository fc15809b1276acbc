/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of set-up paths: a caller-owned object in addition to the usual 0 or -errno. The first cause wins: a second
 * err_set on the same object changes nothing, so a caller may add a description of its own without hiding the cause.
 */
#ifndef WISP_MONITOR_ERR_H
#define WISP_MONITOR_ERR_H

struct err {
	int errnum;     /* positive errno; 0: no error yet */
	char text[480]; /* one line for a person: what failed, on which object, why, what to do */
};

/* Records `errnum` (positive) and the formatted line unless `err` is NULL or already set. Returns -errnum. */
int err_set(struct err *err, int errnum, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
