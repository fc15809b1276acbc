/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/lib/state.h"

int launch_spawn(const char *program, const char *const *argv, const struct launch_fd *fds, size_t count,
        const sigset_t *blocked, pid_t *pid)
{
	char *const envp[] = {NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t all, none;
	sigfillset(&all);
	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&actions, 0, 1);
	posix_spawn_file_actions_adddup2(&actions, 0, 2);
	for (size_t i = 0; i < count; i++)
		posix_spawn_file_actions_adddup2(&actions, fds[i].ours, fds[i].theirs);
	posix_spawn_file_actions_addclosefrom_np(&actions, fds[count - 1].theirs + 1);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	posix_spawnattr_setsigmask(&attributes, blocked ? blocked : &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	/* It does not write to the arguments. */
	int r = posix_spawn(pid, program, &actions, &attributes, (char *const *)(uintptr_t)argv, envp);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return r;
}

static int spawn(const char *helper, int socket, int stderr_fd, pid_t *pid)
{
	const char *const argv[] = {helper, NULL};
	const struct launch_fd fds[] = {{stderr_fd, 2}, {socket, DESCRIPTION_SOCKET_FD}};
	sigset_t blocked;
	/* The monitor handles these itself, and one that comes before it can must wait. */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGHUP);
	return launch_spawn(helper, argv, fds, 2, &blocked, pid);
}

/* The description waits in the socket for the monitor, which need not exist to be sent to. */
static int start(const char *helper, struct description *description, const struct description_fds *fds, int socket,
        int peer, int stderr_fd, pid_t *pid, struct wisp_error *error)
{
	description->started_ns = (uint64_t)lib_now_ns();
	int r = description_send(socket, description, fds);
	if (r < 0)
		return lib_fail_errno(error, -r, "cannot send the sandbox's description to the monitor");
	r = spawn(helper, peer, stderr_fd, pid);
	if (r == ENOENT || r == EACCES || r == ENOEXEC)
		return lib_fail(error, WISP_ERR_SETUP, r,
		        "cannot start the monitor %s: %s: check the installation or set libdir", helper,
		        strerrordesc_np(r));
	return r == 0 ? 0 : lib_fail_errno(error, r, "cannot start the monitor %s", helper);
}

int launch_start(const char *helper, struct description *description, const struct description_fds *fds,
        const int *console_fd, pid_t *pid, int *status_fd, struct wisp_error *error)
{
	enum { OWN, MONITORS };
	int pair[2], r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return lib_fail_errno(error, errno, "cannot make a socket pair");
	/* Above the places where the child finds its own, so that no move overwrites the source of another. */
	int peer = fcntl(pair[MONITORS], F_DUPFD_CLOEXEC, DESCRIPTION_SOCKET_FD + 1);
	int log = console_fd
	                  ? fcntl(*console_fd, F_DUPFD_CLOEXEC, DESCRIPTION_SOCKET_FD + 1)
	                  : openat(fds->dir, "vmm.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (peer < 0 || log < 0)
		r = lib_fail_errno(error, errno, "cannot open what the monitor writes to");
	else if (!console_fd && (r = state_give(fds->root, fds->dir, "vmm.log")) < 0)
		lib_fail_errno(error, -r, "cannot give vmm.log to the owner of the state directory");
	else
		r = start(helper, description, fds, pair[OWN], peer, log, pid, error);
	close(pair[MONITORS]);
	if (peer >= 0)
		close(peer);
	if (log >= 0)
		close(log);
	if (r < 0)
		close(pair[OWN]);
	else
		*status_fd = pair[OWN];
	return r;
}

/* The end is what matters: if there is no room, the older half goes. */
static void add_words(struct launch_words *words, const char *piece, size_t size)
{
	size_t kept = sizeof(words->text) / 2;
	if (words->length + size >= sizeof(words->text)) {
		if (kept > words->length)
			kept = words->length;
		memmove(words->text, words->text + words->length - kept, kept);
		words->length = kept;
	}
	memcpy(words->text + words->length, piece, size);
	words->length += size;
}

static int hear(int fd, const struct lib_cancel *cancel, int64_t deadline_ns, struct launch_words *words)
{
	for (;;) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		char piece[256];
		int r = lib_poll(cancel, &pfd, 1, deadline_ns);
		if (r < 0)
			return r;
		ssize_t n = read(fd, piece, sizeof(piece));
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			add_words(words, piece, (size_t)n);
	}
}

int launch_hear(int fd, const char *program, pid_t pid, const struct lib_cancel *cancel, int64_t limit_ms,
        struct launch_words *words, struct wisp_error *error)
{
	words->length = 0;
	int r = hear(fd, cancel, lib_deadline_ns(limit_ms), words);
	while (words->length > 0 && words->text[words->length - 1] == '\n')
		words->length--;
	words->text[words->length] = '\0';
	if (r == 0)
		return 0;
	kill(pid, SIGKILL);
	if (r == -ETIMEDOUT)
		return lib_fail(error, WISP_ERR_SETUP, ETIMEDOUT, "%s did not start within %d s", program,
		        (int)(limit_ms / 1000));
	return lib_fail_wait(error, r);
}

const char *launch_last_line(const struct launch_words *words, const char *otherwise)
{
	const char *newline = strrchr(words->text, '\n'), *last = newline ? newline + 1 : words->text;
	return last[0] ? last : otherwise;
}

bool launch_serves(pid_t pid, int socket)
{
	struct pollfd end = {.fd = socket};
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	while (poll(&end, 1, 0) < 0 && errno == EINTR)
		;
	return status == 0 && !(end.revents & POLLHUP);
}

void launch_reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
