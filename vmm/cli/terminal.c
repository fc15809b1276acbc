/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session on this terminal. The library sets the terminal back whenever it returns; signals make it return. What it
 * cannot see, this process's own crash or SIGKILL, is the guard's business: a child that holds nothing but the
 * terminal and a pipe, and sets the terminal back if the pipe ends without a word.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/cli/cli.h"

struct guard {
	pid_t pid;
	int fd;
};

static void watch(int fd, const struct termios *saved)
{
	char word;
	sigset_t all;
	/* It is in the background for the terminal: SIGTTOU must not stop it while it sets it. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	setpgid(0, 0);
	prctl(PR_SET_NAME, "wisp-terminal");
	close_range(STDOUT_FILENO, (unsigned)fd - 1, 0);
	close_range((unsigned)fd + 1, ~0u, 0);
	ssize_t n;
	while ((n = read(fd, &word, 1)) < 0 && errno == EINTR)
		;
	if (n == 0)
		tcsetattr(STDIN_FILENO, TCSANOW, saved);
	_exit(0);
}

static struct guard start_guard(void)
{
	struct guard guard = {.pid = -1, .fd = -1};
	struct termios saved;
	int ends[2];
	if (tcgetattr(STDIN_FILENO, &saved) < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return guard;
	guard.pid = fork();
	if (guard.pid == 0) {
		close(ends[1]);
		watch(ends[0], &saved);
	}
	close(ends[0]);
	guard.fd = ends[1];
	return guard;
}

static void end_guard(const struct guard *guard)
{
	if (guard->fd < 0)
		return;
	if (write(guard->fd, "", 1) < 0)
		kill(guard->pid, SIGKILL);
	close(guard->fd);
	while (guard->pid > 0 && waitpid(guard->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Blocked, and read from a descriptor: nothing is interrupted. */
static int open_signals(const int *numbers, size_t count)
{
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < count; i++)
		sigaddset(&set, numbers[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool has_term(const char *const *env)
{
	for (; *env; env++) {
		if (strncmp(*env, "TERM=", 5) == 0)
			return true;
	}
	return false;
}

/* A new session of the command, or of the shell, that knows what terminal this is. */
static int attach_new(struct wisp_sandbox *sandbox, const struct cli_args *args,
        const struct wisp_attach_options *attach, uint64_t *id, struct wisp_exit_status *status,
        struct wisp_error *error)
{
	struct wisp_exec_options options;
	const char *name = getenv("TERM");
	char *term = NULL;
	cli_fill_exec_options(args, &options);
	const char **env = calloc(args->env_count + 2, sizeof(*env));
	if (env)
		memcpy(env, args->env, args->env_count * sizeof(*env));
	if (env && name && name[0] && !has_term(args->env) && asprintf(&term, "TERM=%s", name) >= 0)
		env[args->env_count] = term;
	if (env)
		options.env = env;
	int r = wisp_attach(sandbox, args->command, &options, attach, id, status, error);
	free(term);
	free(env);
	return r;
}

int cli_bridge_terminal(struct wisp_sandbox *sandbox, const struct cli_args *args, struct wisp_session *session,
        uint64_t id, struct wisp_error *error)
{
	static const int ending[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT}, resizing[] = {SIGWINCH};
	struct wisp_exit_status status;
	struct signalfd_siginfo info;
	if (!isatty(STDIN_FILENO))
		return cli_fail("-t wants a terminal on standard input: leave -t, or run it from one");
	int cancel_fd = open_signals(ending, sizeof(ending) / sizeof(ending[0]));
	int resize_fd = open_signals(resizing, 1);
	struct wisp_attach_options attach = {
	        .size = sizeof(attach),
	        .output_fd = isatty(STDOUT_FILENO) ? STDOUT_FILENO : STDIN_FILENO,
	        .detach_keys = args->detach_keys,
	        .resize_fd = resize_fd > 0 ? resize_fd : 0,
	        .cancel_fd = cancel_fd > 0 ? cancel_fd : 0,
	};
	struct guard guard = start_guard();
	int r = session ? wisp_attach_session(session, &attach, &status, error)
	                : attach_new(sandbox, args, &attach, &id, &status, error);
	end_guard(&guard);
	int code = r;
	if (r == 0) {
		code = cli_exit_code(&status);
	} else if (r == 1) {
		fprintf(stderr, "\r\nwisp: detached from session %llu: it goes on: wisp attach %s %llu\n",
		        (unsigned long long)id, wisp_get_sandbox_name(sandbox), (unsigned long long)id);
		code = 0;
	} else if (r == -ECANCELED) {
		code = CLI_EXIT_SIGNAL;
		if (read(cancel_fd, &info, sizeof(info)) == sizeof(info))
			code += (int)info.ssi_signo;
	}
	if (resize_fd >= 0)
		close(resize_fd);
	if (cancel_fd >= 0)
		close(cancel_fd);
	return code < 0 ? -1 : code;
}
