/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/lib/launch.h"

/* Where the child finds its descriptors. */
enum { CHILD_LOCK_FD = 3, CHILD_STATUS_FD = 4, CHILD_FD_END = 5 };

struct args {
	char *argv[96];
	size_t count;
	bool failed;
};

static void add(struct args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct args *args, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	/* One is kept for the NULL at the end. */
	if (args->count + 1 >= sizeof(args->argv) / sizeof(args->argv[0]) ||
	        vasprintf(&args->argv[args->count], format, ap) < 0) {
		args->failed = true;
		if (args->count < sizeof(args->argv) / sizeof(args->argv[0]))
			args->argv[args->count] = NULL;
	} else {
		args->argv[++args->count] = NULL;
	}
	va_end(ap);
}

static void add_option(struct args *args, const char *name, const char *value)
{
	add(args, "%s", name);
	add(args, "%s", value);
}

/* With all options always there, so that no path reads like one. */
static void add_disk(struct args *args, const char *path, bool read_only, enum wisp_cache cache)
{
	static const char *const modes[] = {
	        [WISP_CACHE_WRITEBACK] = "writeback", [WISP_CACHE_DIRECT] = "direct", [WISP_CACHE_UNSAFE] = "unsafe"};
	add(args, "--disk");
	add(args, "%s,%s,cache=%s", path, read_only ? "ro" : "rw", modes[cache]);
}

static void make_args(const struct launch *launch, struct args *args)
{
	add(args, "%s", launch->helper);
	add_option(args, "--dir", launch->dir);
	add(args, "--lock-fd");
	add(args, "%d", CHILD_LOCK_FD);
	add(args, "--status-fd");
	add(args, "%d", CHILD_STATUS_FD);
	add_option(args, "--kernel", launch->kernel);
	add_option(args, "--initramfs", launch->initramfs);
	add(args, "--cpus");
	add(args, "%u", launch->cpus);
	add(args, "--memory");
	add(args, "%u", launch->memory_mib);
	add_disk(args, launch->image, !launch->writable, WISP_CACHE_WRITEBACK);
	for (size_t i = 0; i < launch->disk_count; i++)
		add_disk(args, launch->disks[i].path, launch->disks[i].read_only, launch->disks[i].cache);
	add_option(args, "--mode", launch->writable ? "rw" : "ro");
	if (launch->overlay)
		add_option(args, "--overlay", launch->overlay);
	add_option(args, "--host", launch->hostname);
	add(args, "--boot-timeout");
	add(args, "%lld", (long long)((launch->boot_timeout_ms + 999) / 1000));
	if (launch->console)
		add(args, "--console");
	if (launch->detach)
		add(args, "--detach");
	if (launch->ephemeral)
		add(args, "--ephemeral");
	if (launch->kernel_args)
		add_option(args, "--kernel-args", launch->kernel_args);
	for (size_t i = 0; launch->breakpoints && launch->breakpoints[i]; i++)
		add_option(args, "--breakpoint", launch->breakpoints[i]);
	/* Last: the time in it is the start's. */
	if (launch->trace)
		add(args, "--trace=%lld", (long long)lib_now_ns());
}

static int spawn(const struct launch *launch, char *const *argv, int lock_fd, int status_fd, pid_t *pid)
{
	char *log = NULL;
	char *const envp[] = {NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	if (asprintf(&log, "%s/vmm.log", launch->dir) < 0)
		return ENOMEM;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&actions, 0, 1);
	if (launch->console_fd > 0)
		posix_spawn_file_actions_adddup2(&actions, launch->console_fd, 2);
	else
		posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	posix_spawn_file_actions_adddup2(&actions, lock_fd, CHILD_LOCK_FD);
	posix_spawn_file_actions_adddup2(&actions, status_fd, CHILD_STATUS_FD);
	posix_spawn_file_actions_addclosefrom_np(&actions, CHILD_FD_END);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	int r = posix_spawn(pid, launch->helper, &actions, &attributes, argv, envp);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	free(log);
	return r;
}

int launch_start(const struct launch *launch, int lock_fd, int status_fd, pid_t *pid, struct wisp_error *error)
{
	struct args args = {0};
	make_args(launch, &args);
	/* Above the places they are moved to, so that neither move overwrites the other's source. */
	int lock = fcntl(lock_fd, F_DUPFD_CLOEXEC, CHILD_FD_END);
	int status = fcntl(status_fd, F_DUPFD_CLOEXEC, CHILD_FD_END);
	int r;
	if (args.failed)
		r = lib_no_memory(error);
	else if (lock < 0 || status < 0)
		r = lib_fail_errno(error, errno, "cannot pass descriptors to the monitor");
	else
		r = -spawn(launch, args.argv, lock, status, pid);
	if (r == -ENOENT || r == -EACCES || r == -ENOEXEC)
		lib_fail(error, WISP_ERR_SETUP, -r,
		        "cannot start the monitor %s: %s: check the installation or set libdir", launch->helper,
		        strerrordesc_np(-r));
	else if (r < 0 && !args.failed && lock >= 0 && status >= 0)
		lib_fail_errno(error, -r, "cannot start the monitor %s", launch->helper);
	if (lock >= 0)
		close(lock);
	if (status >= 0)
		close(status);
	for (size_t i = 0; i < args.count; i++)
		free(args.argv[i]);
	return r;
}

void launch_reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
