/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_uring as Linux 5.19 and 6.0 have it, which know no IORING_SETUP_DEFER_TASKRUN: a library that tests/run puts
 * before liburing.
 */
#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>

__attribute__((visibility("default"))) int io_uring_queue_init_params(
        unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
	int (*next)(unsigned, struct io_uring *, struct io_uring_params *) = NULL;
	if (params->flags & (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN))
		return -EINVAL;
	*(void **)&next = dlsym(RTLD_NEXT, "io_uring_queue_init_params");
	return next ? next(entries, ring, params) : -ENOSYS;
}
