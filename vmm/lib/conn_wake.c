/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm/lib/conn_wake.h"

void conn_wake_init(struct conn_wake *wake)
{
	*wake = (struct conn_wake){.event_fd = -1, .window_fd = -1, .epoll_fd = -1, .timer_fd = -1};
}

void conn_wake_destroy(struct conn_wake *wake)
{
	const int fds[] = {wake->event_fd, wake->window_fd, wake->epoll_fd, wake->timer_fd};
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	conn_wake_init(wake);
}

int conn_wake_make(struct conn_wake *wake)
{
	if (wake->event_fd < 0)
		wake->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake->window_fd < 0)
		wake->window_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return wake->event_fd >= 0 && wake->window_fd >= 0 ? 0 : -errno;
}

static bool watch(int epoll_fd, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};
	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static int set_timer(int fd, int64_t deadline_ns)
{
	struct itimerspec when = {.it_value = {.tv_sec = deadline_ns / NS_PER_S, .tv_nsec = deadline_ns % NS_PER_S}};
	return timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static int make_timer(int64_t deadline_ns)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (fd < 0 || set_timer(fd, deadline_ns) == 0)
		return fd;
	int errnum = errno;
	close(fd);
	errno = errnum;
	return -1;
}

int conn_wake_make_epoll(struct conn_wake *wake, int fd, int64_t deadline_ns)
{
	if (wake->epoll_fd >= 0)
		return 0;
	int r = conn_wake_make(wake);
	if (r < 0)
		return r;
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC), timer_fd = -1;
	bool ok = epoll_fd >= 0 && watch(epoll_fd, fd) && watch(epoll_fd, wake->event_fd);
	if (ok && deadline_ns != INT64_MAX) {
		timer_fd = make_timer(deadline_ns);
		ok = timer_fd >= 0 && watch(epoll_fd, timer_fd);
	}
	if (!ok) {
		r = -errno;
		if (timer_fd >= 0)
			close(timer_fd);
		if (epoll_fd >= 0)
			close(epoll_fd);
		return r;
	}
	wake->epoll_fd = epoll_fd;
	wake->timer_fd = timer_fd;
	wake->wants_out = false;
	return 0;
}

void conn_wake_set_deadline(struct conn_wake *wake, int64_t deadline_ns)
{
	if (wake->timer_fd >= 0)
		set_timer(wake->timer_fd, deadline_ns);
}

static void set_level(int fd, bool *is_set, bool want)
{
	uint64_t value = 1;
	if (fd < 0 || *is_set == want)
		return;
	/* Neither can fail: the counter is 0 or 1, and the descriptor does not block. */
	ssize_t n = want ? write(fd, &value, sizeof(value)) : read(fd, &value, sizeof(value));
	if (n == sizeof(value))
		*is_set = want;
}

void conn_wake_update(struct conn_wake *wake, int fd, bool receivable, bool writable, bool pending)
{
	set_level(wake->event_fd, &wake->event_set, receivable);
	set_level(wake->window_fd, &wake->window_set, writable);
	if (wake->epoll_fd >= 0 && pending != wake->wants_out) {
		struct epoll_event event = {.events = EPOLLIN | (pending ? EPOLLOUT : 0)};
		if (epoll_ctl(wake->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
			wake->wants_out = pending;
	}
}
