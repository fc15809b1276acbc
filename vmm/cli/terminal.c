/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session on this terminal. The library restores the terminal before it returns, and signals make it return. A crash
 * or SIGKILL of this process is handled by the guard: a child that holds only the terminal and a pipe, and restores the
 * terminal if the pipe closes without a byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/cli/execution.h"

struct guard {
	pid_t pid;
	int fd;
};

static void watch(int fd, const struct termios *saved)
{
	char word;
	sigset_t all;
	/* The guard is a background process: SIGTTOU must not stop it while it sets the terminal. */
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

static int open_resizes(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGCONT); /* raw mode is set again */
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool has_term(const char *const *env)
{
	for (; env && *env; env++) {
		if (strncmp(*env, "TERM=", 5) == 0)
			return true;
	}
	return false;
}

/* Starts a new session, whose TERM is that of this terminal. */
static int attach_new(struct wisp_sandbox *sandbox, const char *const *command, const struct cli_execution *execution,
        const struct wisp_attach_options *attach, uint64_t *id, struct wisp_exit_status *status,
        struct wisp_error *error)
{
	const struct cli_process *process = &execution->process;
	struct wisp_exec_options options;
	const char *name = getenv("TERM");
	char *term = NULL;
	cli_fill_execution(execution, &options);
	const char **env = calloc(process->env_count + 2, sizeof(*env));
	if (env && process->env_count > 0)
		memcpy(env, process->env, process->env_count * sizeof(*env));
	if (env && name && name[0] && !has_term(process->env) && asprintf(&term, "TERM=%s", name) >= 0)
		env[process->env_count] = term;
	if (env)
		options.env = env;
	int r = wisp_attach(sandbox, command && command[0] ? command : NULL, &options, attach, id, status, error);
	free(term);
	free(env);
	return r;
}

/* What is bridged: a session that exists, or a command to run in a new one. */
struct bridged {
	struct wisp_sandbox *sandbox;
	struct wisp_session *session; /* NULL: a new one */
	uint64_t id;
	const char *const *command;
	const struct cli_execution *execution;
};

static int bridge(struct bridged *bridged, const char *detach_keys, struct wisp_error *error)
{
	struct wisp_exit_status status;
	struct signalfd_siginfo info;
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return cli_fail("%s requires standard %s to be a terminal; %srun wisp from a terminal",
		        bridged->session ? "a session with a terminal" : "-t",
		        isatty(STDIN_FILENO) ? "output" : "input", bridged->session ? "" : "omit -t, or ");
	int cancel_fd = cli_open_signals(), resize_fd = open_resizes(), output_fd = STDOUT_FILENO;
	struct wisp_attach_options attach = {
	        .size = sizeof(attach),
	        .output_fd = &output_fd,
	        .detach_keys = detach_keys,
	        .resize_fd = resize_fd >= 0 ? &resize_fd : NULL,
	        .cancel_fd = cancel_fd >= 0 ? &cancel_fd : NULL,
	};
	struct guard guard = start_guard();
	int r = bridged->session ? wisp_attach_session(bridged->session, &attach, &status, error)
	                         : attach_new(bridged->sandbox, bridged->command, bridged->execution, &attach,
	                                   &bridged->id, &status, error);
	end_guard(&guard);
	int code = r;
	if (r == 0) {
		code = cli_exit_code(&status);
	} else if (r == 1) {
		fprintf(stderr, "\r\nwisp: detached from session %llu, which keeps running: wisp attach %s %llu\n",
		        (unsigned long long)bridged->id, wisp_get_sandbox_name(bridged->sandbox),
		        (unsigned long long)bridged->id);
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

int cli_bridge_terminal(struct wisp_sandbox *sandbox, const char *const *command, const struct cli_execution *execution,
        struct wisp_error *error)
{
	struct bridged bridged = {.sandbox = sandbox, .command = command, .execution = execution};
	return bridge(&bridged, execution->detach_keys, error);
}

int cli_bridge_terminal_session(struct wisp_sandbox *sandbox, struct wisp_session *session, uint64_t id,
        const char *detach_keys, struct wisp_error *error)
{
	struct bridged bridged = {.sandbox = sandbox, .session = session, .id = id};
	return bridge(&bridged, detach_keys, error);
}
