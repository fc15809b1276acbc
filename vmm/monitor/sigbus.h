/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files whose pages are guest memory: the kernel's, and a snapshot's. If someone truncates one, its pages are gone, and
 * the guest cannot continue: the monitor gets SIGBUS, or KVM tells it, or the guest itself fails at what it finds.
 */
#ifndef WISP_MONITOR_SIGBUS_H
#define WISP_MONITOR_SIGBUS_H

#include <stdbool.h>
#include <stdint.h>

#define SIGBUS_OWNER_FD 3 /* a handler has no other way to know it */
#define SIGBUS_STATUS 125

/*
 * Makes SIGBUS write its cause to standard error and to the owner of the sandbox, and exit with SIGBUS_STATUS, in any
 * thread.
 */
void sigbus_report(void);

/* The file of a restored machine's memory. */
struct backing {
	int fd;        /* the caller's */
	uint64_t size; /* that it must have; 0: there is no file */
};

/* Whether the file is too short by now, or cannot be looked at. */
bool backing_is_cut(const struct backing *backing);

#endif
