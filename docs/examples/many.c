/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many commands at once in one thread: an epoll loop watches the descriptor of each session.
 *
 *	cc many.c -lwisp -o many && ./many 'sleep 1; echo one' 'echo two' 'exit 3'
 *
 * Each argument is a script for the sandbox's shell. What it writes is printed with the script's number before it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <wisp.h>

#define SCRIPTS_MAX 100 /* a sandbox serves WISP_CLIENTS_MAX connections at once */

struct job {
	int number;
	struct wisp_session *session;
};

/* Takes the events that have arrived. True once there will be no more. */
static bool take_events(struct job *job)
{
	const struct wisp_event *event;
	struct wisp_error error;

	for (;;) {
		int r = wisp_recv_event(job->session, 0, &event, &error);
		if (r == -EAGAIN)
			return false;
		if (r < 0) {
			fprintf(stderr, "%d: %s\n", job->number, error.message);
			return true;
		}
		switch (event->type) {
		case WISP_EVENT_STDOUT:
		case WISP_EVENT_STDERR: printf("%d: %.*s", job->number, (int)event->length, event->data); break;
		case WISP_EVENT_FAILED: printf("%d: did not start: %s\n", job->number, event->message); break;
		case WISP_EVENT_EXITED: printf("%d: exit code %d\n", job->number, event->status.code); break;
		case WISP_EVENT_DONE: return true;
		default: break;
		}
	}
}

static int watch(int epoll_fd, struct job *job)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = job};
	int fd = wisp_get_session_fd(job->session);
	return fd < 0 ? -1 : epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int run(struct wisp_sandbox *sandbox, char **scripts, int count)
{
	struct wisp_exec_options options = {.size = sizeof(options), .timeout_ms = 60000};
	struct job jobs[SCRIPTS_MAX];
	struct wisp_error error;
	int started = 0, running = 0, code = 0, epoll_fd = epoll_create1(EPOLL_CLOEXEC);

	for (; started < count; started++) {
		struct job *job = &jobs[started];
		job->number = started + 1;
		if (wisp_shell_stream(sandbox, scripts[started], NULL, &options, &job->session, &error) < 0) {
			fprintf(stderr, "%d: %s\n", job->number, error.message);
			code = 125;
			break;
		}
		if (watch(epoll_fd, job) < 0) {
			perror("epoll");
			wisp_close_session(job->session);
			code = 125;
			break;
		}
		running++;
	}
	while (running > 0) {
		struct epoll_event event;
		if (epoll_wait(epoll_fd, &event, 1, -1) < 1)
			continue; /* a signal */
		struct job *job = event.data.ptr;
		if (take_events(job)) {
			/* Before the session is closed, and with it the descriptor. */
			epoll_ctl(epoll_fd, EPOLL_CTL_DEL, wisp_get_session_fd(job->session), NULL);
			wisp_close_session(job->session);
			running--;
		}
	}
	close(epoll_fd);
	return code;
}

int main(int argc, char **argv)
{
	struct wisp_create_options create = {
	        .size = sizeof(create),
	        .state_root = getenv("WISP_STATE") ? getenv("WISP_STATE") : "/run/wisp",
	        .libdir = getenv("WISP_LIBDIR"),
	};
	struct wisp_sandbox *sandbox;
	struct wisp_error error;

	if (argc < 2 || argc - 1 > SCRIPTS_MAX) {
		fprintf(stderr, "usage: many SCRIPT... (at most %d)\n", SCRIPTS_MAX);
		return 125;
	}
	if (wisp_create_sandbox(&create, &sandbox, &error) < 0) {
		fprintf(stderr, "%s\n", error.message);
		return 125;
	}
	int code = run(sandbox, argv + 1, argc - 1);
	wisp_close_sandbox(sandbox);
	return code;
}
