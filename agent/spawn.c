/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a program is started.
 *
 * The child is a clone that shares the agent's memory and that the agent waits for until it has executed the program
 * or failed (CLONE_VM | CLONE_VFORK). No page table is copied, which is most of what fork() costs; the child reports
 * a failure by writing it where the agent will look, so success needs no pipe and no read; and when agent_spawn()
 * returns, it is known which of both happened. The price is that what stops the child in between stops the agent: a
 * file system that does not answer, which only root in the guest can mount, or SIGSTOP from the user that the program
 * is to run as, in the few microseconds in which the child is that user already. Both harm their own guest alone.
 *
 * The child must touch as little as possible: no allocation, no stdio, no libc call that is more than the system call
 * (setuid and its family synchronise threads in libc, so these are made directly).
 *
 * What it does not need to do: reset signal handlers (the agent has none and ignores no signal, serve.c), leave the
 * OOM killer's exemption (the kernel never kills PID 1, so the agent needs no oom_score_adj that a child would
 * inherit), drop CAP_SYS_BOOT (gone from the bounding set, init.c).
 */
#include "agent/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/pty.h"

struct child {
	struct agent_spawner *spawner;
	const struct agent_request *request;
	const struct agent_user *user;
	const char *path_variable;
	int input, output, error; /* what becomes 0, 1 and 2 */
	/* the child's answer: */
	int failed; /* errno, 0: the program runs */
	enum proto_stage stage;
	int rlimit; /* index of the one that failed */
};

void agent_fail(struct agent_failure *failure, enum proto_failure kind, enum proto_stage stage, int error,
        const char *format, ...)
{
	*failure = (struct agent_failure){.error = error, .kind = (uint8_t)kind, .stage = (uint8_t)stage};
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(failure->message, sizeof(failure->message), format, arguments);
	va_end(arguments);
	if (error && length >= 0 && (size_t)length < sizeof(failure->message))
		snprintf(failure->message + length, sizeof(failure->message) - (size_t)length, ": %s", strerror(error));
}

/* ---- In the child ---- */

static __attribute__((noreturn)) void give_up(struct child *child, enum proto_stage stage)
{
	child->failed = errno;
	child->stage = stage;
	_exit(127);
}

/* 0, 1 and 2. The agent itself has these open, so none of the three sources is among them. */
static void set_descriptors(struct child *child)
{
	if (dup2(child->input, 0) < 0 || dup2(child->output, 1) < 0 || dup2(child->error, 2) < 0)
		give_up(child, PROTO_STAGE_PIPE);
	/*
	 * Everything is close-on-exec, but the kernel lets the agent go on before it has closed these files, and until
	 * then a connection or a pipe that the agent closes would stay open.
	 */
	syscall(SYS_close_range, 3u, ~0u, 0u);
}

static void set_rlimits(struct child *child)
{
	prlimit(0, RLIMIT_NOFILE, &child->spawner->files, NULL);
	for (uint32_t i = 0; i < child->request->exec.rlimit_count; i++) {
		const struct proto_rlimit *wanted = &child->request->rlimits[i];
		/* UINT64_MAX is the kernel's own RLIM_INFINITY. */
		const uint64_t limit[2] = {wanted->soft, wanted->hard};
		child->rlimit = (int)i;
		if (syscall(SYS_prlimit64, 0, wanted->resource, limit, NULL) < 0)
			give_up(child, PROTO_STAGE_RLIMIT);
	}
}

static void set_user(struct child *child)
{
	const struct agent_user *user = child->user;
	if (!user->change)
		return;
	if (syscall(SYS_setgroups, (size_t)user->group_count, user->groups) < 0 ||
	        syscall(SYS_setresgid, user->gid, user->gid, user->gid) < 0 ||
	        syscall(SYS_setresuid, user->uid, user->uid, user->uid) < 0)
		give_up(child, PROTO_STAGE_USER);
}

/* The file that is tried next, where the agent sees it too. False when it is too long to be one. */
static bool set_path(struct child *child, const char *folder, size_t length, const char *name)
{
	char *path = child->spawner->path;
	size_t name_bytes = strlen(name) + 1;
	if (length + 1 + name_bytes > SPAWN_PATH_BYTES) {
		path[0] = '\0';
		return false;
	}
	memcpy(path, folder, length);
	if (length)
		path[length++] = '/';
	memcpy(path + length, name, name_bytes);
	return true;
}

/* Returns only when it failed, with errno. */
static void execute(struct child *child, const char *file)
{
	execve(file, child->request->argv, child->request->envp);
}

/*
 * A name with a slash is the file. Another is looked for in PATH, and as shells do it, a file that may not be executed
 * does not end the search but is what is reported when nothing better comes.
 */
static void search_and_execute(struct child *child)
{
	const char *name = child->request->argv[0];
	const char *folder = child->path_variable ? child->path_variable : "";
	errno = ENOENT;
	if (!*name)
		return;
	if (strchr(name, '/')) {
		set_path(child, "", 0, name);
		execute(child, name);
		return;
	}
	const char *denied = NULL;
	for (bool last = false; !last;) {
		size_t length = strcspn(folder, ":");
		if (set_path(child, folder, length, name)) {
			execute(child, child->spawner->path);
			if (errno == EACCES && !denied)
				denied = folder;
			else if (errno != EACCES && errno != ENOENT && errno != ENOTDIR)
				return;
		}
		last = folder[length] == '\0';
		folder += length + 1;
	}
	errno = ENOENT;
	if (denied) {
		set_path(child, denied, strcspn(denied, ":"), name);
		errno = EACCES;
	}
}

static int child_main(void *argument)
{
	struct child *child = argument;
	bool tty = child->request->exec.flags & PROTO_EXEC_TTY;
	setsid();
	if (tty && ioctl(child->input, TIOCSCTTY, 0) < 0)
		give_up(child, PROTO_STAGE_PTY);
	set_descriptors(child);
	set_rlimits(child);
	set_user(child);
	/* After the user, who must be allowed to enter it. */
	errno = EINVAL;
	const char *cwd = *child->request->cwd ? child->request->cwd : "/";
	if (*cwd != '/' || chdir(cwd) < 0)
		give_up(child, PROTO_STAGE_CWD);
	uint64_t none = 0;
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
	search_and_execute(child);
	give_up(child, PROTO_STAGE_EXEC);
}

/* ---- In the agent ---- */

/*
 * What an execve that failed means. In a shell's terms: not_found is 127; permission_denied and not_executable are 126.
 * EACCES for a file (no x bit for this user, a folder on the way that it may not search, a noexec mount) is "Permission
 * denied" in every shell; a folder is not executable whatever the permissions. ENOENT is also what a missing
 * interpreter gives (#! or the dynamic loader); shells exit with 127 then, so it is not_found here. ENOEXEC a shell
 * would run as a script of its own: here no shell is involved.
 */
static enum proto_failure exec_failure(int error, const char *path)
{
	struct stat status;
	switch (error) {
	case ENOENT:
	case ENOTDIR: return PROTO_FAILURE_NOT_FOUND;
	case EACCES:
		if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
			return PROTO_FAILURE_NOT_EXECUTABLE;
		return PROTO_FAILURE_PERMISSION_DENIED;
	case EPERM: return PROTO_FAILURE_PERMISSION_DENIED;
	case ENOEXEC:
	case EISDIR:
	case EINVAL:
	case ELIBBAD:
	case ELOOP:
	case ETXTBSY: return PROTO_FAILURE_NOT_EXECUTABLE;
	case E2BIG:
	case ENAMETOOLONG: return PROTO_FAILURE_BAD_ARGS;
	case EAGAIN:
	case EMFILE:
	case ENFILE: return PROTO_FAILURE_RESOURCE_LIMIT;
	case ENOMEM: return PROTO_FAILURE_OUT_OF_MEMORY;
	default: return PROTO_FAILURE_OTHER;
	}
}

/* For system calls of the agent itself. */
static enum proto_failure system_failure(int error)
{
	if (error == ENOMEM)
		return PROTO_FAILURE_OUT_OF_MEMORY;
	return error == EMFILE || error == ENFILE || error == EAGAIN ? PROTO_FAILURE_RESOURCE_LIMIT
	                                                             : PROTO_FAILURE_OTHER;
}

static void explain(const struct child *child, struct agent_failure *failure)
{
	const struct agent_request *request = child->request;
	const char *name = request->argv[0];
	int error = child->failed;
	switch (child->stage) {
	case PROTO_STAGE_RLIMIT:
		agent_fail(failure, PROTO_FAILURE_RESOURCE_LIMIT, child->stage, error,
		        "cannot set resource limit %u to %llu:%llu", request->rlimits[child->rlimit].resource,
		        (unsigned long long)request->rlimits[child->rlimit].soft,
		        (unsigned long long)request->rlimits[child->rlimit].hard);
		return;
	case PROTO_STAGE_USER:
		agent_fail(failure, PROTO_FAILURE_USER_SETUP_FAILED, child->stage, error,
		        "cannot become user %u, group %u", child->user->uid, child->user->gid);
		return;
	case PROTO_STAGE_CWD:
		agent_fail(failure, PROTO_FAILURE_BAD_CWD, child->stage, error,
		        "cannot enter working directory \"%.300s\"%s", request->cwd,
		        *request->cwd == '/' ? "" : ", which is not absolute");
		return;
	case PROTO_STAGE_PTY:
		agent_fail(failure, PROTO_FAILURE_PTY_SETUP_FAILED, child->stage, error, "cannot take the terminal");
		return;
	case PROTO_STAGE_EXEC: break;
	default:
		agent_fail(failure, system_failure(error), child->stage, error, "cannot start \"%.300s\"", name);
		return;
	}
	/* What was tried last is only telling where it is what failed. */
	const char *path = child->spawner->path;
	bool lookup = !strchr(name, '/');
	enum proto_failure kind = exec_failure(error, path);
	if (lookup && kind == PROTO_FAILURE_NOT_FOUND)
		agent_fail(failure, kind, child->stage, error, "\"%.300s\" is not in PATH", name);
	else if (kind == PROTO_FAILURE_NOT_FOUND && access(path, F_OK) == 0)
		agent_fail(failure, kind, child->stage, error, "the interpreter of \"%.300s\" is missing", name);
	else
		agent_fail(failure, kind, child->stage, error, "cannot execute \"%.300s\"", name);
}

struct pipe {
	int ours, theirs;
};

static void close_pipe(struct pipe *pipe)
{
	if (pipe->ours >= 0)
		close(pipe->ours);
	if (pipe->theirs >= 0)
		close(pipe->theirs);
}

/* Our end of it does not block, theirs does. */
static int open_pipe(struct pipe *pipe, bool we_read)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pipe->ours = ends[we_read ? 0 : 1];
	pipe->theirs = ends[we_read ? 1 : 0];
	return fcntl(pipe->ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* The pipes or the terminal. 0, or -1 with *failure; the caller closes what was opened either way. */
static int open_streams(const struct agent_request *request, const struct agent_user *user, struct pipe streams[3],
        struct agent_failure *failure)
{
	int error = 0;
	if (request->exec.flags & PROTO_EXEC_TTY) {
		error = agent_pty_open(
		        request->exec.rows, request->exec.cols, user->uid, &streams[1].ours, &streams[1].theirs);
		if (error)
			agent_fail(failure, PROTO_FAILURE_PTY_SETUP_FAILED, PROTO_STAGE_PTY, -error,
			        "cannot open a terminal");
		return error ? -1 : 0;
	}
	if (request->exec.flags & PROTO_EXEC_STDIN)
		error = open_pipe(&streams[0], false);
	for (int i = 1; i <= 2 && !error; i++)
		error = open_pipe(&streams[i], true);
	/* As with a terminal: who opens /dev/stdout anew, as servers do for their logs, must own it. */
	for (int i = 0; i <= 2 && !error && user->uid; i++)
		if (streams[i].theirs >= 0 && fchown(streams[i].theirs, user->uid, user->gid) < 0)
			error = -errno;
	if (error)
		agent_fail(failure, system_failure(-error), PROTO_STAGE_PIPE, -error, "cannot open a pipe");
	return error ? -1 : 0;
}

/* 0 with *pid, or -1 with *failure. */
static int run_child(struct child *child, pid_t *pid, struct agent_failure *failure)
{
	*pid = clone(child_main, child->spawner->stack + SPAWN_STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD, child);
	if (*pid < 0) {
		int error = errno;
		agent_fail(failure, system_failure(error), PROTO_STAGE_FORK, error, "cannot create a process");
		return -1;
	}
	if (!child->failed)
		return 0;
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	explain(child, failure);
	return -1;
}

int agent_spawn(struct agent_spawner *spawner, const struct agent_request *request, const struct agent_user *user,
        int null_fd, struct agent_spawned *spawned, struct agent_failure *failure)
{
	bool tty = request->exec.flags & PROTO_EXEC_TTY;
	struct pipe streams[3] = {{-1, -1}, {-1, -1}, {-1, -1}};
	int result = open_streams(request, user, streams, failure);
	if (!result) {
		struct child child = {
		        .spawner = spawner,
		        .request = request,
		        .user = user,
		        .path_variable = agent_request_getenv(request, "PATH"),
		        .input = tty                      ? streams[1].theirs
		                 : streams[0].theirs >= 0 ? streams[0].theirs
		                                          : null_fd,
		        .output = streams[1].theirs,
		        .error = tty ? streams[1].theirs : streams[2].theirs,
		};
		spawner->path[0] = '\0';
		result = run_child(&child, &spawned->pid, failure);
	}
	if (result) {
		for (int i = 0; i < 3; i++)
			close_pipe(&streams[i]);
		return -1;
	}
	for (int i = 0; i < 3; i++)
		if (streams[i].theirs >= 0)
			close(streams[i].theirs);
	spawned->input = tty ? streams[1].ours : streams[0].ours;
	spawned->output[0] = streams[1].ours;
	spawned->output[1] = streams[2].ours;
	return 0;
}
