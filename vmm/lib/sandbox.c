/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox's handle: waiting, ending and closing. create.c creates sandboxes, existing.c opens them. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/conn.h"
#include "vmm/lib/egress.h"
#include "vmm/lib/launch.h"
#include "vmm/lib/manage.h"
#include "vmm/lib/ports.h"
#include "vmm/lib/sandbox.h"
#include "vmm/shared/end.h"

/* How long a monitor may take to die after it was told to end at once. */
#define DEATH_MS 10000

const char *wisp_get_sandbox_name(const struct wisp_sandbox *sandbox)
{
	return sandbox ? sandbox->name : "";
}

const char *wisp_get_sandbox_dir(const struct wisp_sandbox *sandbox)
{
	return sandbox ? sandbox->dir : "";
}

int wisp_get_sandbox_fd(const struct wisp_sandbox *sandbox)
{
	if (!sandbox)
		return -1;
	return sandbox->status_fd >= 0 ? sandbox->status_fd : sandbox->pidfd;
}

/* ---- The status socket ---- */

static void take_line(struct wisp_sandbox *sandbox, const char *line)
{
	struct state state;
	if (sandbox->phase == SANDBOX_ENDED)
		return;
	if (strncmp(line, "error ", 6) == 0) {
		sandbox->phase = SANDBOX_ENDED;
		sandbox->setup_failed = true;
		sandbox->end_text = strdup(line + 6);
		return;
	}
	state_parse(line, &state);
	if (state.kind == STATE_READY || state.kind == STATE_TEMPLATE) {
		sandbox->phase = SANDBOX_READY;
		sandbox->was_ready = true;
	} else if (state.kind == STATE_EXIT) {
		sandbox->phase = SANDBOX_ENDED;
		sandbox->end = state.end;
		sandbox->end_text = state.text;
	} else {
		free(state.text);
	}
}

/* Returns the last line of vmm.log, for a monitor that sent none: a sanitizer's or the dynamic linker's message. */
static char *last_log_line(int dir_fd)
{
	char *log = lib_read_file(dir_fd, "vmm.log", 1 << 20, NULL);
	if (!log)
		return NULL;
	size_t length = strlen(log);
	while (length > 0 && log[length - 1] == '\n')
		log[--length] = '\0';
	const char *line = strrchr(log, '\n');
	char *result = length > 0 ? strdup(line ? line + 1 : log) : NULL;
	free(log);
	return result;
}

/* Reads what has arrived, without waiting. With the lock held. */
static void read_status(struct wisp_sandbox *sandbox)
{
	while (sandbox->phase != SANDBOX_ENDED) {
		size_t room = sizeof(sandbox->line) - 1 - sandbox->line_length;
		ssize_t n = recv(sandbox->status_fd, sandbox->line + sandbox->line_length, room, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		/* Short of memory, say: it may come later. */
		if (n < 0 && errno != ECONNRESET)
			return;
		if (n <= 0) {
			/* It has died without saying why. */
			struct state state;
			state_read(sandbox->dir_fd, &state);
			sandbox->setup_failed = sandbox->phase == SANDBOX_BOOTING && state.kind != STATE_EXIT;
			sandbox->phase = SANDBOX_ENDED;
			sandbox->end = state.end;
			sandbox->end_text = state.text;
			const char *why = cgroup_explain_death(sandbox->config.cgroup);
			if (!sandbox->end_text && why)
				sandbox->end = WISP_END_KILLED;
			if (!sandbox->end_text)
				sandbox->end_text = why ? strdup(why) : last_log_line(sandbox->dir_fd);
			return;
		}
		sandbox->line_length += (size_t)n;
		sandbox->line[sandbox->line_length] = '\0';
		char *at = sandbox->line, *newline;
		while ((newline = strchr(at, '\n'))) {
			*newline = '\0';
			take_line(sandbox, at);
			at = newline + 1;
		}
		sandbox->line_length = strlen(at);
		memmove(sandbox->line, at, sandbox->line_length + 1);
		if (sandbox->line_length == sizeof(sandbox->line) - 1)
			sandbox->line_length = 0; /* the monitor sends no line of this length */
	}
}

static int fail_boot(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	const char *text = sandbox->end_text && sandbox->end_text[0] ? sandbox->end_text : NULL;
	if (sandbox->setup_failed)
		return lib_fail(error, WISP_ERR_SETUP, EIO, "the sandbox '%s' could not be set up: %s", sandbox->name,
		        text ? text : "the monitor died without saying why");
	if (sandbox->end == WISP_END_BOOT_TIMEOUT)
		return lib_fail(error, WISP_ERR_BOOT_TIMEOUT, ETIMEDOUT,
		        "the guest of the sandbox '%s' was not ready in time%s%s: run wisp doctor, or allow a longer "
		        "boot "
		        "timeout",
		        sandbox->name, text ? ": " : "", text ? text : "");
	return lib_fail(error, WISP_ERR_BOOT_FAILED, EIO,
	        "the guest of the sandbox '%s' ended before it was ready (%s)%s%s", sandbox->name,
	        wisp_get_end_name(sandbox->end), text ? ": " : "", text ? text : "");
}

/* A detached monitor is not our child. The lock tells its pid before it is ready. */
static void find_monitor(struct wisp_sandbox *sandbox)
{
	if (sandbox->pidfd >= 0)
		return;
	if (sandbox->child > 0) {
		launch_reap(sandbox->child);
		sandbox->child = 0;
	}
	sandbox->pidfd = state_open_monitor(sandbox->dir_fd);
}

int wisp_wait_ready(struct wisp_sandbox *sandbox, int64_t timeout_ms, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	if (sandbox->status_fd < 0)
		return 0;
	int64_t deadline = lib_deadline_ns(timeout_ms);
	for (;;) {
		pthread_mutex_lock(&sandbox->lock);
		read_status(sandbox);
		int r = -EAGAIN;
		if (sandbox->phase == SANDBOX_READY) {
			find_monitor(sandbox);
			r = 0;
		} else if (sandbox->phase == SANDBOX_ENDED) {
			r = fail_boot(sandbox, error);
		} else if (lib_now_ns() >= sandbox->boot_deadline_ns) {
			/* The monitor hangs: its own timeout is earlier. */
			sandbox->phase = SANDBOX_ENDED;
			sandbox->end = WISP_END_BOOT_TIMEOUT;
			if (sandbox->pidfd >= 0)
				pidfd_send_signal(sandbox->pidfd, SIGKILL, NULL, 0);
			r = fail_boot(sandbox, error);
		}
		pthread_mutex_unlock(&sandbox->lock);
		if (r == 0)
			r = egress_begin(sandbox, error);
		if (r == 0)
			return ports_begin(sandbox, error);
		if (r != -EAGAIN)
			return r;
		if (lib_now_ns() >= deadline)
			return lib_fail(
			        error, WISP_ERR_AGAIN, EAGAIN, "the sandbox '%s' is still booting", sandbox->name);
		int64_t next = deadline < sandbox->boot_deadline_ns ? deadline : sandbox->boot_deadline_ns;
		struct pollfd pfd = {.fd = sandbox->status_fd, .events = POLLIN};
		r = lib_poll(&sandbox->cancel, &pfd, 1, next);
		if (r < 0 && r != -ETIMEDOUT)
			return lib_fail_wait(error, r);
	}
}

/* ---- The end ---- */

/* Returns 0 once the process has ended, and reaps it; else what lib_poll returns. */
static int wait_death(struct wisp_sandbox *sandbox, const struct lib_cancel *cancel, int64_t deadline_ns)
{
	/* Without a pid, only the lock tells. */
	while (sandbox->pidfd < 0 && state_probe(sandbox->dir_fd) == STATE_HELD) {
		int64_t now = lib_now_ns(), next = now + 5 * NS_PER_MS;
		int r = now >= deadline_ns ? -ETIMEDOUT : lib_poll(cancel, NULL, 0, next);
		if (r < 0 && (r != -ETIMEDOUT || now >= deadline_ns))
			return r;
	}
	if (sandbox->pidfd >= 0) {
		struct pollfd pfd = {.fd = sandbox->pidfd, .events = POLLIN};
		int r = lib_poll(cancel, &pfd, 1, deadline_ns);
		if (r < 0)
			return r;
	}
	pthread_mutex_lock(&sandbox->lock);
	if (sandbox->child > 0) {
		launch_reap(sandbox->child);
		sandbox->child = 0;
	}
	if (sandbox->proxy > 0) {
		launch_reap(sandbox->proxy);
		sandbox->proxy = 0;
	}
	pthread_mutex_unlock(&sandbox->lock);
	return 0;
}

/* Does what a killed monitor could not: leaves a record, or deletes the directory. */
static void tidy(struct wisp_sandbox *sandbox)
{
	ports_after_end(sandbox);
	cgroup_remove(sandbox->config.cgroup);
	if (!sandbox->config.keep) {
		/* Only this sandbox's: another one of its name may have followed. */
		sandbox_files_remove(sandbox->root_fd, sandbox->dir_fd, sandbox->name);
		return;
	}
	struct state state;
	state_read(sandbox->dir_fd, &state);
	free(state.text);
	if (state.kind == STATE_EXIT)
		return;
	/* The monitor may have said why it dies, without the time to write it down. */
	bool known = sandbox->end != WISP_END_UNKNOWN && sandbox->end_text;
	char line[sizeof(sandbox->line)];
	snprintf(line, sizeof(line), "exit %s %s", end_name(known ? sandbox->end : WISP_END_KILLED),
	        known ? sandbox->end_text : "its monitor was killed");
	sandbox_files_write_state(sandbox->dir_fd, line);
}

/*
 * Finds the monitor, if it has not ended. A monitor has its pid in the lock later than the lock, and no longer when the
 * kernel takes it apart.
 */
static int find_to_signal(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	int64_t deadline = lib_deadline_ns(DEATH_MS);
	for (;;) {
		pthread_mutex_lock(&sandbox->lock);
		find_monitor(sandbox);
		pthread_mutex_unlock(&sandbox->lock);
		if (sandbox->pidfd >= 0 || state_probe(sandbox->dir_fd) != STATE_HELD)
			return 0;
		if (state_hides_monitor(sandbox->dir_fd))
			return lib_fail(error, WISP_ERR_SYSTEM, ESRCH,
			        "the sandbox '%s' is running, but its monitor cannot be signalled: it is in another "
			        "pid namespace",
			        sandbox->name);
		int64_t now = lib_now_ns();
		if (now >= deadline)
			return lib_fail(error, WISP_ERR_SYSTEM, ETIMEDOUT,
			        "the sandbox '%s' is still being created, or its monitor does not end: try again later",
			        sandbox->name);
		int r = lib_poll(&sandbox->cancel, NULL, 0, now + 5 * NS_PER_MS);
		if (r < 0 && r != -ETIMEDOUT)
			return lib_fail_wait(error, r);
	}
}

int sandbox_signal(struct wisp_sandbox *sandbox, int signal, int64_t grace_ms, struct wisp_error *error)
{
	siginfo_t info = {.si_signo = signal, .si_code = SI_QUEUE};
	ports_before_end(sandbox);
	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = grace_ms < INT_MAX ? (int)grace_ms : INT_MAX;
	int r = find_to_signal(sandbox, error);
	if (r < 0)
		return r;
	if (sandbox->pidfd >= 0 && pidfd_send_signal(sandbox->pidfd, signal, &info, 0) < 0 && errno != ESRCH)
		return lib_fail_errno(error, errno, "cannot signal the monitor of the sandbox '%s'", sandbox->name);
	return 0;
}

int sandbox_kill(struct wisp_sandbox *sandbox, const struct lib_cancel *cancel, struct wisp_error *error)
{
	int r = sandbox_signal(sandbox, SIGKILL, 0, error);
	if (r < 0)
		return r;
	r = wait_death(sandbox, cancel, lib_deadline_ns(DEATH_MS));
	if (r < 0 && r != -ETIMEDOUT)
		return lib_fail_wait(error, r);
	if (r < 0)
		return lib_fail(error, WISP_ERR_SYSTEM, ETIMEDOUT,
		        "the monitor of the sandbox '%s' has not ended %d s after SIGKILL: try again later",
		        sandbox->name, DEATH_MS / 1000);
	tidy(sandbox);
	return 0;
}

int wisp_kill_sandbox(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	return sandbox_kill(sandbox, &sandbox->cancel, error);
}

int wisp_stop_sandbox(struct wisp_sandbox *sandbox, int64_t grace_ms, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	int r = lib_check_duration(grace_ms, "the grace to stop", error);
	if (r < 0)
		return r;
	if (grace_ms == 0)
		grace_ms =
		        sandbox->config.stop_grace_ms > 0 ? sandbox->config.stop_grace_ms : WISP_STOP_GRACE_MS_DEFAULT;
	/* The agent waits for those who may not have read all. */
	conn_pool_drain(sandbox->pool);
	r = sandbox_signal(sandbox, SIGTERM, grace_ms, error);
	if (r < 0)
		return r;
	r = wait_death(sandbox, &sandbox->cancel, lib_deadline_ns(grace_ms));
	if (r == -ETIMEDOUT)
		return sandbox_kill(sandbox, &sandbox->cancel, error);
	if (r < 0)
		return lib_fail_wait(error, r);
	tidy(sandbox);
	return 0;
}

/* For a sandbox that another process created, only the record tells. */
static enum wisp_end recorded_end(struct wisp_sandbox *sandbox)
{
	struct state state;
	state_read(sandbox->dir_fd, &state);
	free(state.text);
	return state.kind == STATE_EXIT ? state.end : WISP_END_UNKNOWN;
}

int wisp_get_sandbox_state(struct wisp_sandbox *sandbox, enum wisp_sandbox_state *state, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(state, "state", error))
		return -EINVAL;
	struct stat st;
	/* Its own directory, whatever has its name by now. */
	if (fstatat(sandbox->dir_fd, SANDBOX_FILES_LOCK, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT) {
		*state = WISP_SANDBOX_STOPPED;
		return 0;
	}
	struct state record;
	int r = state_now(sandbox->dir_fd, false, &record, state);
	free(record.text);
	return r < 0 ? lib_fail_errno(error, -r, "cannot read the state of the sandbox '%s'", sandbox->name) : 0;
}

int wisp_wait_sandbox(struct wisp_sandbox *sandbox, int64_t timeout_ms, enum wisp_end *end, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	int64_t deadline = lib_deadline_ns(timeout_ms);
	bool ended = false;
	while (sandbox->status_fd >= 0 && !ended) {
		pthread_mutex_lock(&sandbox->lock);
		read_status(sandbox);
		ended = sandbox->phase == SANDBOX_ENDED;
		pthread_mutex_unlock(&sandbox->lock);
		if (ended)
			break;
		if (lib_now_ns() >= deadline)
			return lib_fail(
			        error, WISP_ERR_AGAIN, EAGAIN, "the sandbox '%s' is still running", sandbox->name);
		struct pollfd pfd = {.fd = sandbox->status_fd, .events = POLLIN};
		int r = lib_poll(&sandbox->cancel, &pfd, 1, deadline);
		if (r < 0 && r != -ETIMEDOUT)
			return lib_fail_wait(error, r);
	}
	/* After its last line, the monitor only has to exit. */
	int r = wait_death(sandbox, &sandbox->cancel, ended ? lib_deadline_ns(DEATH_MS) : deadline);
	if (r < 0 && r != -ETIMEDOUT)
		return lib_fail_wait(error, r);
	if (r < 0 && !ended)
		return lib_fail(error, WISP_ERR_AGAIN, EAGAIN, "the sandbox '%s' is still running", sandbox->name);
	if (end)
		*end = sandbox->status_fd >= 0 ? sandbox->end : recorded_end(sandbox);
	return 0;
}

int wisp_set_cancel(struct wisp_sandbox *sandbox, const struct wisp_cancel *cancel, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	return lib_copy_cancel(&sandbox->cancel, cancel, &(struct lib_cancel){0}, error);
}

void wisp_close_sandbox(struct wisp_sandbox *sandbox)
{
	if (!sandbox)
		return;
	conn_pool_close(sandbox->pool);
	/* Closing this descriptor tells the monitor that its owner is gone. */
	bool failed = sandbox->status_fd >= 0 && !sandbox->was_ready, unfinished = sandbox->owner || failed;
	if (failed)
		sandbox->config.keep = false; /* a boot that failed leaves nothing behind */
	ports_before_end(sandbox);
	if (sandbox->status_fd >= 0)
		close(sandbox->status_fd);
	sandbox->status_fd = -1;
	if (unfinished && sandbox->dir_fd >= 0) {
		/* A detached one may be ready without our knowledge, and goes on then. */
		bool ends = sandbox->owner && wait_death(sandbox, NULL, lib_deadline_ns(DEATH_MS)) == 0;
		if (ends)
			tidy(sandbox);
		else
			sandbox_kill(sandbox, NULL, NULL);
	}
	if (sandbox->child > 0)
		launch_reap(sandbox->child);
	ports_close(sandbox->ports);
	egress_free(sandbox->egress);
	if (sandbox->sockets_fd >= 0)
		close(sandbox->sockets_fd);
	if (sandbox->pidfd >= 0)
		close(sandbox->pidfd);
	if (sandbox->dir_fd >= 0)
		close(sandbox->dir_fd);
	if (sandbox->root_fd >= 0)
		close(sandbox->root_fd);
	pthread_mutex_destroy(&sandbox->lock);
	config_free(&sandbox->config);
	free(sandbox->end_text);
	free(sandbox->name);
	free(sandbox->dir);
	free(sandbox);
}

struct wisp_sandbox *sandbox_new(int root_fd, const struct lib_cancel *cancel)
{
	struct wisp_sandbox *sandbox = calloc(1, sizeof(*sandbox));
	struct conn_pool *pool = sandbox ? conn_pool_new() : NULL;
	if (!pool) {
		free(sandbox);
		if (root_fd >= 0)
			close(root_fd);
		return NULL;
	}
	pthread_mutex_init(&sandbox->lock, NULL);
	sandbox->pool = pool;
	sandbox->root_fd = root_fd;
	sandbox->dir_fd = sandbox->pidfd = sandbox->status_fd = sandbox->sockets_fd = -1;
	sandbox->cancel = *cancel;
	sandbox->phase = SANDBOX_READY;
	return sandbox;
}

void sandbox_destroy(struct wisp_sandbox *sandbox)
{
	if (!sandbox)
		return;
	sandbox->config.keep = false;
	/* One that is not ready may have no pid yet, and ends when it loses its creator. */
	if (sandbox->was_ready)
		sandbox_kill(sandbox, NULL, NULL);
	wisp_close_sandbox(sandbox);
}

void wisp_free_text(char *text)
{
	free(text);
}
