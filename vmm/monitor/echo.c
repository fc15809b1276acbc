/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/echo.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/monitor/thread.h"

#define STACK_SIZE (256u << 10)
#define WAKE_SIGNAL SIGUSR2 /* interrupts a write that waits for the reader */
#define WAKE_MS 10
#define WRITE_MAX (16u << 10) /* what a write takes is in the buffer until all of it is taken */
#define NOTE_SIZE 80u         /* of the line about dropped text */

struct echo {
	int fd;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	size_t begin, length; /* what waits in the buffer, which wraps */
	size_t dropped;       /* bytes, not reported yet */
	bool closing;         /* no more is written */
	bool done;            /* the thread is at its end */
	bool given_up;        /* atomic: the reader is waited for no longer */
	bool failed;          /* the reader has gone, say: nothing waits any more */
	char buffer[ECHO_SIZE];
};

/* ---- Into the buffer, with the lock held ---- */

static void put(struct echo *echo, const char *data, size_t length)
{
	size_t at = (echo->begin + echo->length) % ECHO_SIZE;
	size_t first = length < ECHO_SIZE - at ? length : ECHO_SIZE - at;
	memcpy(echo->buffer + at, data, first);
	memcpy(echo->buffer, data + first, length - first);
	echo->length += length;
}

static void report_dropped(struct echo *echo)
{
	char note[NOTE_SIZE];
	int n = snprintf(note, sizeof(note), "[%zu bytes of the console were lost here]\n", echo->dropped);
	put(echo, "\n", 1);
	put(echo, note, (size_t)n);
	echo->dropped = 0;
}

void echo_write(struct echo *echo, const void *data, size_t length)
{
	pthread_mutex_lock(&echo->lock);
	/* After a loss, text is taken again when half of the buffer is free: one long gap reads better than many. */
	if (!echo->failed && echo->dropped > 0 && echo->length <= ECHO_SIZE / 2)
		report_dropped(echo);
	size_t room = echo->failed || echo->dropped > 0 ? 0 : ECHO_SIZE - NOTE_SIZE - echo->length;
	size_t taken = length < room ? length : room;
	put(echo, data, taken);
	echo->dropped += length - taken;
	pthread_cond_broadcast(&echo->changed);
	pthread_mutex_unlock(&echo->lock);
}

/* ---- Out of it ---- */

/* Waits for the reader, unless echo_destroy gives up. Returns what write(2) does. */
static ssize_t write_out(const struct echo *echo, const char *data, size_t length)
{
	ssize_t n;
	while ((n = write(echo->fd, data, length)) < 0 && (errno == EINTR || errno == EAGAIN)) {
		/* The owner's descriptor may be one that does not block. */
		struct pollfd pfd = {.fd = echo->fd, .events = POLLOUT};
		if (__atomic_load_n(&echo->given_up, __ATOMIC_RELAXED))
			return -1;
		poll(&pfd, 1, -1);
	}
	return n;
}

static void *run(void *context)
{
	struct echo *echo = context;
	pthread_mutex_lock(&echo->lock);
	for (;;) {
		while (echo->length == 0 && !echo->closing)
			pthread_cond_wait(&echo->changed, &echo->lock);
		if (echo->length == 0)
			break;
		size_t length = ECHO_SIZE - echo->begin < echo->length ? ECHO_SIZE - echo->begin : echo->length;
		if (length > WRITE_MAX)
			length = WRITE_MAX;
		const char *data = echo->buffer + echo->begin;
		/* Nothing else moves `begin`, and what waits is not written over. */
		pthread_mutex_unlock(&echo->lock);
		ssize_t n = write_out(echo, data, length);
		pthread_mutex_lock(&echo->lock);
		echo->failed |= n < 0;
		size_t done = n < 0 ? echo->length : (size_t)n;
		echo->begin = (echo->begin + done) % ECHO_SIZE;
		echo->length -= done;
	}
	echo->done = true;
	pthread_cond_broadcast(&echo->changed);
	pthread_mutex_unlock(&echo->lock);
	return NULL;
}

/* ---- Life ---- */

static void destroy(struct echo *echo)
{
	pthread_cond_destroy(&echo->changed);
	pthread_mutex_destroy(&echo->lock);
	free(echo);
}

int echo_create(struct echo **out, int fd, struct err *err)
{
	pthread_condattr_t monotonic;
	struct echo *echo = calloc(1, sizeof(*echo));
	if (!echo)
		return err_set(err, ENOMEM, "out of memory for the console's copy");
	echo->fd = fd;
	pthread_mutex_init(&echo->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&echo->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	int ret = thread_start(&echo->thread, STACK_SIZE, WAKE_SIGNAL, run, echo);
	if (ret != 0) {
		destroy(echo);
		return err_set(err, ret, "cannot start a thread for the console's copy: %s", strerror(ret));
	}
	*out = echo;
	return 0;
}

/* Waits for up to so long until the thread is done, with the lock held. */
static void await_done(struct echo *echo, unsigned ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	while (!echo->done && pthread_cond_timedwait(&echo->changed, &echo->lock, &until) == 0)
		;
}

void echo_destroy(struct echo *echo, unsigned patience_ms)
{
	if (!echo)
		return;
	pthread_mutex_lock(&echo->lock);
	if (!echo->failed && echo->dropped > 0)
		report_dropped(echo);
	echo->closing = true;
	pthread_cond_broadcast(&echo->changed);
	await_done(echo, patience_ms);
	__atomic_store_n(&echo->given_up, true, __ATOMIC_RELAXED);
	while (!echo->done) {
		/* Again if it came between two waits. */
		pthread_kill(echo->thread, WAKE_SIGNAL);
		await_done(echo, WAKE_MS);
	}
	pthread_mutex_unlock(&echo->lock);
	pthread_join(echo->thread, NULL);
	destroy(echo);
}
