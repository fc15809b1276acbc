/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>

#include "vmm/shared/container_of.h"

#define NEVER_S (1ll << 40) /* CLOCK_REALTIME, some 30,000 years from now */

static void await(struct clock *clock)
{
	struct io_uring_sqe *sqe = loop_sqe(clock->loop);
	io_uring_prep_read(sqe, clock->fd, &clock->expired, sizeof(clock->expired), 0);
	loop_start(clock->loop, sqe, &clock->op);
}

static void on_read(struct loop_op *op, int res, uint32_t flags)
{
	struct clock *clock = container_of(op, struct clock, op);
	(void)flags;
	/* Other errors are the host's, which then has more to worry about than the guest's clock. */
	if (res != -ECANCELED && res != -EINTR && res != -EAGAIN)
		return;
	await(clock);
	if (res == -ECANCELED)
		clock->set(clock->context);
}

int clock_watch(struct clock *clock, struct err *err)
{
	const struct itimerspec never = {.it_value.tv_sec = NEVER_S};
	clock->fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
	if (clock->fd < 0 || timerfd_settime(clock->fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0)
		return err_set(err, errno, "cannot watch the host's clock: %s", strerror(errno));
	clock->op.done = on_read;
	await(clock);
	return 0;
}
