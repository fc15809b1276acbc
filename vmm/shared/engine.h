/* SPDX-License-Identifier: Apache-2.0 */
/* The engines of the monitor's event loop: which of them this host has. For the monitor, and for the library. */
#ifndef WISP_SHARED_ENGINE_H
#define WISP_SHARED_ENGINE_H

#include <errno.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "wisp.h"

/*
 * What every ring of the monitor has: it starts disabled, to be restricted (Linux 5.10); a failed submission does not
 * hold up others (5.18); completions do not interrupt the thread (5.19). No feature is named after what else the
 * monitor needs, multishot polls (5.13); a kernel that has the last of these flags has them.
 */
#define URING_FLAGS (IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN)

/* 0, or -errno: -EINVAL of an old kernel, -ENOSYS or -EPERM where it is missing or forbidden. */
static inline int uring_probe(void)
{
	struct io_uring_params params = {.flags = URING_FLAGS};
	long fd = syscall(SYS_io_uring_setup, 1, &params);
	if (fd < 0)
		return -errno;
	close((int)fd);
	return 0;
}

#endif
