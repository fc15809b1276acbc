/* SPDX-License-Identifier: Apache-2.0 */
/* The limits of a sandbox's life. What is to pass is short, and waited for; what is not to pass is far away. */
#include "tests/unit/test.h"
#include "tests/unit/test_loop.h"
#include "vmm/monitor/lifetime.h"

#define SHORT_MS 20
#define FAR_MS 3600000

static struct loop *loop;
static int passed[LIFETIME_LIMITS], total, result;

static void on_passed(void *context, enum lifetime_limit limit, int res)
{
	(void)context;
	passed[limit]++;
	total++;
	result = res;
}

/* The kernel writes to a timer that is in flight until the loop is gone. */
static bool begin(struct lifetime *l, enum lifetime_limit limit, uint64_t ms)
{
	memset(passed, 0, sizeof(passed));
	total = result = 0;
	*l = (struct lifetime){.passed = on_passed};
	l->ms[limit] = ms;
	bool good = open_loop(&loop, 16, NULL);
	l->loop = loop;
	return good;
}

/* Until something has passed, or nothing is in flight. */
static void await(void)
{
	for (int i = 0; i < 1000 && total == 0; i++)
		loop_step(loop, 10);
}

static void each_limit_passes_once(void)
{
	static struct lifetime l;
	for (enum lifetime_limit limit = 0; limit < LIFETIME_LIMITS; limit++) {
		REQUIRE(begin(&l, limit, SHORT_MS));
		uint64_t began = loop_now_ns();
		if (limit == LIFETIME_IDLE)
			lifetime_ready(&l);
		else
			lifetime_start(&l, limit);
		await();
		CHECK(passed[limit] == 1 && total == 1 && result == 0);
		CHECK(loop_now_ns() - began >= SHORT_MS * 1000000u);
		loop_destroy(loop);
	}
}

static void without_a_limit_there_is_no_timer(void)
{
	static struct lifetime l;
	REQUIRE(begin(&l, LIFETIME_BOOT, 0));
	for (enum lifetime_limit limit = 0; limit < LIFETIME_LIMITS; limit++)
		lifetime_start(&l, limit);
	lifetime_ready(&l);
	lifetime_set_busy(&l, true);
	lifetime_set_busy(&l, false);
	for (enum lifetime_limit limit = 0; limit < LIFETIME_LIMITS; limit++)
		CHECK(!l.timer[limit].armed);
	loop_destroy(loop);
}

static void what_is_cancelled_does_not_pass(void)
{
	static struct lifetime l;
	REQUIRE(begin(&l, LIFETIME_BOOT, FAR_MS));
	lifetime_start(&l, LIFETIME_BOOT);
	lifetime_cancel(&l, LIFETIME_BOOT);
	while (l.timer[LIFETIME_BOOT].armed)
		CHECK(loop_step(loop, 1000) >= 0);
	CHECK_EQ(total, 0);
	loop_destroy(loop);
}

/* A session, or a pause, that lasts beyond the timer's end; then the whole time begins anew. */
static void only_idleness_counts(void)
{
	static struct lifetime l;
	for (int pause = 0; pause < 2; pause++) {
		REQUIRE(begin(&l, LIFETIME_IDLE, SHORT_MS));
		lifetime_set_busy(&l, false); /* not ready yet */
		CHECK(!l.timer[LIFETIME_IDLE].armed);
		lifetime_ready(&l);
		CHECK(l.timer[LIFETIME_IDLE].armed);
		pause ? lifetime_set_paused(&l, true) : lifetime_set_busy(&l, true);
		while (l.timer[LIFETIME_IDLE].armed)
			CHECK(loop_step(loop, 1000) >= 0);
		CHECK_EQ(total, 0);
		uint64_t began = loop_now_ns();
		pause ? lifetime_set_paused(&l, false) : lifetime_set_busy(&l, false);
		await();
		CHECK_EQ(passed[LIFETIME_IDLE], 1);
		CHECK(loop_now_ns() - began >= SHORT_MS * 1000000u);
		loop_destroy(loop);
	}
}

/* Sessions that come and go do not touch the timer, which finds at its end that there is time left. */
static void one_timer_serves_all_sessions(void)
{
	static struct lifetime l;
	REQUIRE(begin(&l, LIFETIME_IDLE, SHORT_MS));
	lifetime_ready(&l);
	struct timespec pause = {.tv_nsec = SHORT_MS * 500000};
	nanosleep(&pause, NULL);
	for (int i = 0; i < 1000; i++) {
		lifetime_set_busy(&l, true);
		lifetime_set_busy(&l, false);
	}
	uint64_t began = loop_now_ns();
	await();
	CHECK_EQ(passed[LIFETIME_IDLE], 1);
	CHECK(loop_now_ns() - began >= SHORT_MS * 900000u);
	CHECK_EQ(total, 1);
	loop_destroy(loop);
}

TEST_MAIN("lifetime", {"each_limit_passes_once", each_limit_passes_once},
        {"without_a_limit_there_is_no_timer", without_a_limit_there_is_no_timer},
        {"what_is_cancelled_does_not_pass", what_is_cancelled_does_not_pass},
        {"only_idleness_counts", only_idleness_counts},
        {"one_timer_serves_all_sessions", one_timer_serves_all_sessions})
