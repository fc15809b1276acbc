/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a program is started.
 *
 * The child shares the agent's memory until it has executed the program (CLONE_VM). No page table is copied, which is
 * most of what fork() costs, and a failure is written where the agent will look. The agent does not wait for the child,
 * as vfork() would: the child can be stopped on its way, by a program of the guest that may signal the same user, or by
 * a file system that does not answer, and that must delay its own session only. When the child executes the program or
 * ends, the kernel closes its end of a pipe, and the agent's loop learns of it.
 *
 * Since both run at once, the child must touch nothing that the agent uses: it has the memory of its struct
 * agent_spawn, and makes system calls without libc, whose errno is the agent's.
 *
 * What it does not need to do: reset signal handlers (the agent has none and ignores no signal, serve.c), leave the
 * OOM killer's exemption (the kernel never kills PID 1, so the agent needs no oom_score_adj that a child would
 * inherit), drop CAP_SYS_BOOT (gone from the bounding set, init.c).
 */
#include "agent/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/pty.h"
#include "agent/raw.h"
#include "agent/restrict.h"

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

static __attribute__((noreturn)) void give_up(struct agent_spawn *spawn, enum proto_stage stage, long error)
{
	spawn->failed = (int)-error;
	spawn->stage = (uint8_t)stage;
	for (;;)
		raw_syscall(SYS_exit_group, 127, 0, 0, 0);
}

/* 0, 1 and 2. The agent itself has these open, and 3 for longer than any of the sources. */
static void set_descriptors(struct agent_spawn *spawn)
{
	const int wanted[] = {spawn->input, spawn->output, spawn->error};
	long error = 0;
	for (int i = 0; i < 3 && error >= 0; i++)
		error = raw_syscall(SYS_dup3, wanted[i], i, 0, 0);
	if (error >= 0)
		error = raw_syscall(SYS_dup3, spawn->done, 3, O_CLOEXEC, 0);
	if (error < 0)
		give_up(spawn, PROTO_STAGE_PIPE, error);
	/* Now, not at execve: what the agent closes meanwhile is to be closed. */
	raw_syscall(SYS_close_range, 4, ~0u, 0, 0);
}

static void set_rlimits(struct agent_spawn *spawn)
{
	raw_syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&spawn->files, 0);
	for (uint32_t i = 0; i < spawn->request.exec.rlimit_count; i++) {
		const struct proto_rlimit *wanted = &spawn->request.rlimits[i];
		spawn->rlimit = i;
		/* UINT64_MAX is the kernel's own RLIM_INFINITY. */
		spawn->limits[0] = wanted->soft;
		spawn->limits[1] = wanted->hard;
		long error = raw_syscall(SYS_prlimit64, 0, wanted->resource, (long)spawn->limits, 0);
		if (error < 0)
			give_up(spawn, PROTO_STAGE_RLIMIT, error);
	}
}

/* While it is root. What fails here is reported when the directory is entered. */
static void make_cwd(struct agent_spawn *spawn)
{
	char *cwd = spawn->request.cwd;
	if (*cwd != '/' || raw_syscall(SYS_chdir, (long)cwd, 0, 0, 0) != -ENOENT)
		return;
	for (char *at = cwd + 1; *at; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		raw_syscall(SYS_mkdirat, AT_FDCWD, (long)cwd, 0755, 0);
		*at = '/';
	}
	raw_syscall(SYS_mkdirat, AT_FDCWD, (long)cwd, 0755, 0);
}

static void restrict_program(struct agent_spawn *spawn, long (*part)(void))
{
	if (!(spawn->request.exec.flags & PROTO_EXEC_RESTRICTED))
		return;
	spawn->restricting = true;
	long error = part();
	if (error < 0)
		give_up(spawn, PROTO_STAGE_USER, error);
	spawn->restricting = false;
}

static void set_user(struct agent_spawn *spawn)
{
	const struct agent_user *user = &spawn->user;
	if (!user->change)
		return;
	long error = raw_syscall(SYS_setgroups, (long)user->group_count, (long)user->groups, 0, 0);
	if (error >= 0)
		error = raw_syscall(SYS_setresgid, user->gid, user->gid, user->gid, 0);
	if (error >= 0)
		error = raw_syscall(SYS_setresuid, user->uid, user->uid, user->uid, 0);
	if (error < 0)
		give_up(spawn, PROTO_STAGE_USER, error);
}

/* The file that is tried next, where the agent sees it too. False when it is too long to be one. */
static bool set_path(struct agent_spawn *spawn, const char *folder, size_t length, const char *name)
{
	char *path = spawn->path;
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

/* Returns only when it failed, with -errno. */
static long execute(struct agent_spawn *spawn, const char *file)
{
	return raw_syscall(SYS_execve, (long)file, (long)spawn->request.argv, (long)spawn->request.envp, 0);
}

/*
 * A name with a slash is the file. Another is looked for in PATH, and as shells do it, a file that may not be executed
 * does not end the search but is what is reported when nothing better comes.
 */
static long search_and_execute(struct agent_spawn *spawn)
{
	const char *name = spawn->request.argv[0];
	const char *folder = spawn->path_variable ? spawn->path_variable : "";
	if (!*name)
		return -ENOENT;
	if (strchr(name, '/')) {
		set_path(spawn, "", 0, name);
		return execute(spawn, name);
	}
	const char *denied = NULL;
	for (bool last = false; !last;) {
		size_t length = strcspn(folder, ":");
		if (set_path(spawn, folder, length, name)) {
			long error = execute(spawn, spawn->path);
			if (error == -EACCES && !denied)
				denied = folder;
			else if (error != -EACCES && error != -ENOENT && error != -ENOTDIR)
				return error;
		}
		last = folder[length] == '\0';
		folder += length + 1;
	}
	if (!denied)
		return -ENOENT;
	set_path(spawn, denied, strcspn(denied, ":"), name);
	return -EACCES;
}

static void child_main(void *argument)
{
	struct agent_spawn *spawn = argument;
	static const uint64_t none;
	raw_syscall(SYS_setsid, 0, 0, 0, 0);
	set_descriptors(spawn);
	long error = spawn->request.exec.flags & PROTO_EXEC_TTY ? raw_syscall(SYS_ioctl, 0, TIOCSCTTY, 0, 0) : 0;
	if (error < 0)
		give_up(spawn, PROTO_STAGE_PTY, error);
	if (spawn->request.exec.flags & PROTO_EXEC_MAKE_CWD)
		make_cwd(spawn);
	set_rlimits(spawn);
	restrict_program(spawn, restrict_bounding_set);
	set_user(spawn);
	restrict_program(spawn, restrict_rest);
	/* After the user, who must be allowed to enter it. */
	const char *cwd = *spawn->request.cwd ? spawn->request.cwd : "/";
	error = *cwd == '/' ? raw_syscall(SYS_chdir, (long)cwd, 0, 0, 0) : -EINVAL;
	if (error < 0)
		give_up(spawn, PROTO_STAGE_CWD, error);
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, sizeof(none));
	give_up(spawn, PROTO_STAGE_EXEC, search_and_execute(spawn));
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

static void explain(const struct agent_spawn *spawn, struct agent_failure *failure)
{
	const struct agent_request *request = &spawn->request;
	const char *name = request->argv[0];
	int error = spawn->failed;
	switch (spawn->stage) {
	case PROTO_STAGE_RLIMIT:
		agent_fail(failure, PROTO_FAILURE_RESOURCE_LIMIT, spawn->stage, error,
		        "cannot set resource limit %u to %llu:%llu", request->rlimits[spawn->rlimit].resource,
		        (unsigned long long)request->rlimits[spawn->rlimit].soft,
		        (unsigned long long)request->rlimits[spawn->rlimit].hard);
		return;
	case PROTO_STAGE_USER:
		if (spawn->restricting) {
			agent_fail(failure, PROTO_FAILURE_USER_SETUP_FAILED, spawn->stage, error,
			        "cannot restrict the program, which needs a kernel with CONFIG_SECCOMP_FILTER");
			return;
		}
		agent_fail(failure, PROTO_FAILURE_USER_SETUP_FAILED, spawn->stage, error,
		        "cannot become user %u, group %u", spawn->user.uid, spawn->user.gid);
		return;
	case PROTO_STAGE_CWD:
		agent_fail(failure, PROTO_FAILURE_BAD_CWD, spawn->stage, error,
		        "cannot enter working directory \"%.300s\"%s", request->cwd,
		        *request->cwd == '/' ? "" : ", which is not absolute");
		return;
	case PROTO_STAGE_PTY:
		agent_fail(failure, PROTO_FAILURE_PTY_SETUP_FAILED, spawn->stage, error, "cannot take the terminal");
		return;
	case PROTO_STAGE_EXEC: break;
	default:
		agent_fail(failure, system_failure(error), spawn->stage, error, "cannot start \"%.300s\"", name);
		return;
	}
	/* What was tried last is only telling where it is what failed. The agent is in / and not where the program is.
	 */
	char path[2 * PATH_MAX];
	const char *folder = *spawn->path == '/' ? "" : *request->cwd ? request->cwd : "/";
	snprintf(path, sizeof(path), "%s%s%s", folder, *folder ? "/" : "", spawn->path);
	bool lookup = !strchr(name, '/');
	enum proto_failure kind = exec_failure(error, path);
	if (lookup && kind == PROTO_FAILURE_NOT_FOUND)
		agent_fail(failure, kind, spawn->stage, error, "\"%.300s\" is not in PATH", name);
	else if (kind == PROTO_FAILURE_NOT_FOUND && access(path, F_OK) == 0)
		agent_fail(failure, kind, spawn->stage, error, "the interpreter of \"%.300s\" is missing", name);
	else
		agent_fail(failure, kind, spawn->stage, error, "cannot execute \"%.300s\"", name);
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

/* Nobody writes to it: theirs need not block. */
static int open_status(struct pipe *pipe)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	*pipe = (struct pipe){.ours = ends[0], .theirs = ends[1]};
	return 0;
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

/* 0, or -1 with *failure. */
static int create_child(struct agent_spawn *spawn, int cgroup_fd, struct agent_failure *failure)
{
	struct clone_args args = {
	        .flags = CLONE_VM | (cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
	        .exit_signal = SIGCHLD,
	        .stack = (uintptr_t)spawn->stack,
	        .stack_size = sizeof(spawn->stack),
	        .cgroup = cgroup_fd >= 0 ? (uint64_t)cgroup_fd : 0,
	};
	long pid = raw_clone(&args, child_main, spawn);
	if (pid > 0) {
		spawn->pid = (pid_t)pid;
		return 0;
	}
	agent_fail(failure, system_failure((int)-pid), PROTO_STAGE_FORK, (int)-pid, "cannot create a process");
	return -1;
}

int agent_spawn(struct agent_spawn *spawn, int null_fd, int cgroup_fd, struct agent_spawned *spawned,
        struct agent_failure *failure)
{
	bool tty = spawn->request.exec.flags & PROTO_EXEC_TTY;
	struct pipe streams[3] = {{-1, -1}, {-1, -1}, {-1, -1}}, status = {-1, -1};
	int result = open_streams(&spawn->request, &spawn->user, streams, failure);
	if (!result && (result = open_status(&status)))
		agent_fail(failure, system_failure(-result), PROTO_STAGE_PIPE, -result, "cannot open a pipe");
	if (!result) {
		spawn->path_variable = agent_request_getenv(&spawn->request, "PATH");
		spawn->input = tty ? streams[1].theirs : streams[0].theirs >= 0 ? streams[0].theirs : null_fd;
		spawn->output = streams[1].theirs;
		spawn->error = tty ? streams[1].theirs : streams[2].theirs;
		spawn->done = status.theirs;
		result = create_child(spawn, cgroup_fd, failure);
	}
	if (result) {
		close_pipe(&status);
		for (int i = 0; i < 3; i++)
			close_pipe(&streams[i]);
		return -1;
	}
	close(status.theirs);
	for (int i = 0; i < 3; i++)
		if (streams[i].theirs >= 0)
			close(streams[i].theirs);
	spawned->status = status.ours;
	spawned->input = tty ? streams[1].ours : streams[0].ours;
	spawned->output[0] = streams[1].ours;
	spawned->output[1] = streams[2].ours;
	return 0;
}

int agent_spawn_result(struct agent_spawn *spawn, struct agent_failure *failure)
{
	spawn->pid = 0;
	if (!spawn->failed)
		return 0;
	explain(spawn, failure);
	return -1;
}

struct agent_spawn *agent_spawn_new(struct agent_spawn **spare)
{
	struct agent_spawn *spawn = *spare ? *spare : malloc(sizeof(*spawn));
	*spare = NULL;
	if (!spawn)
		return NULL;
	/* Not what is large: agent_user_resolve() writes the user. */
	memset(spawn, 0, offsetof(struct agent_spawn, user));
	spawn->user.groups = NULL;
	spawn->path[0] = '\0';
	return spawn;
}

void agent_spawn_free(struct agent_spawn *spawn, struct agent_spawn **spare)
{
	if (!spawn)
		return;
	if (spawn->pid) {
		kill(spawn->pid, SIGKILL);
		while (waitpid(spawn->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	agent_request_free(&spawn->request);
	agent_user_free(&spawn->user);
	if (*spare)
		free(spawn);
	else
		*spare = spawn;
}
