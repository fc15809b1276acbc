/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/counts.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "vmm/monitor/machine.h"
#include "vmm/shared/container_of.h"
#include "vmm/shared/proto.h"

int counts_open_smaps(void)
{
	return open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
}

void counts_note(struct counts *c, uint8_t type)
{
	if (type == PROTO_STARTED)
		c->sessions_started++;
	/* The guest's word: no more can have ended than have started. */
	else if (type == PROTO_EXITED && c->sessions_ended < c->sessions_started)
		c->sessions_ended++;
	else if (type == PROTO_FAILED)
		c->sessions_failed++;
}

static uint64_t cpu_ns(clockid_t clock)
{
	struct timespec time;
	return clock_gettime(clock, &time) == 0 ? (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec : 0;
}

/* Tells all who have asked. */
static void tell(struct counts *c, bool memory)
{
	struct stats stats = {.size = sizeof(stats),
	        .flags = memory ? STATS_MEMORY : 0,
	        .uptime_ns = loop_now_ns() - c->begun_ns,
	        .cpu_ns = cpu_ns(CLOCK_PROCESS_CPUTIME_ID),
	        .loop_ns = cpu_ns(CLOCK_THREAD_CPUTIME_ID),
	        .sessions_running = c->sessions_started - c->sessions_ended,
	        .sessions_ended = c->sessions_ended,
	        .sessions_failed = c->sessions_failed};
	struct counts_request *asked = c->asked;
	c->asked = NULL;
	if (memory) {
		stats.guest = c->smaps.guest;
		stats.monitor = c->smaps.monitor;
	}
	if (c->machine)
		machine_count(c->machine, &stats);
	while (asked) {
		struct counts_request *next = asked->next;
		asked->done(asked, &stats);
		asked = next;
	}
}

static void read_piece(struct counts *c);

static void on_piece(struct loop_op *op, int res, uint32_t flags)
{
	struct counts *c = container_of(op, struct counts, op);
	(void)flags;
	c->reading = false;
	if (c->closing)
		return;
	if (res > 0) {
		c->position += (uint64_t)res;
		smaps_take(&c->smaps, c->piece, (size_t)res);
	}
	if (res > 0 || res == -EINTR || res == -EAGAIN)
		read_piece(c);
	else
		tell(c, res == 0);
}

static void read_piece(struct counts *c)
{
	struct io_uring_sqe *sqe = loop_sqe(c->loop);
	io_uring_prep_read(sqe, c->smaps_fd, c->piece, sizeof(c->piece), c->position);
	sqe->flags |= IOSQE_ASYNC; /* never on the loop's thread, as `false` below */
	c->op.done = on_piece;
	c->reading = true;
	loop_start_file(c->loop, sqe, &c->op, false);
}

void counts_collect(struct counts *c, struct counts_request *request)
{
	bool first = !c->asked;
	request->next = c->asked;
	c->asked = request;
	if (!first)
		return;
	if (c->smaps_fd < 0) {
		tell(c, false);
		return;
	}
	c->smaps = (struct smaps){.gmem = c->gmem};
	c->position = 0;
	read_piece(c);
}

void counts_close(struct counts *c)
{
	c->closing = true;
	c->asked = NULL;
	if (c->reading)
		loop_cancel(c->loop, &c->op);
	while (c->reading && loop_step(c->loop, -1) >= 0)
		;
	if (c->smaps_fd > 0) /* 0 is a zeroed object's */
		close(c->smaps_fd);
	c->smaps_fd = -1;
}
