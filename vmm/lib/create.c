/* SPDX-License-Identifier: Apache-2.0 */
/* New sandboxes: everything that can be refused is refused before the name is claimed and the monitor started. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "vmm/lib/describe.h"
#include "vmm/lib/launch.h"
#include "vmm/lib/sandbox.h"

static int check_machine(const struct wisp_create_options *options, struct wisp_error *error)
{
	if (options->cpus < 1 || options->cpus > WISP_CPUS_MAX)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%u cpus: give 1 to %u", options->cpus, WISP_CPUS_MAX);
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) == 0 && options->cpus > (unsigned)CPU_COUNT(&set))
		return lib_fail(
		        error, WISP_ERR_INVALID, EINVAL, "%u cpus: this host has %d", options->cpus, CPU_COUNT(&set));
	if (options->memory_mib < WISP_MEMORY_MIB_MIN)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%u MiB of memory: give at least %u",
		        options->memory_mib, WISP_MEMORY_MIB_MIN);
	struct sysinfo info;
	if (sysinfo(&info) == 0) {
		uint64_t host_mib = (uint64_t)info.totalram * info.mem_unit >> 20;
		if (options->memory_mib > host_mib)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%u MiB of memory: this host has %llu",
			        options->memory_mib, (unsigned long long)host_mib);
	}
	return 0;
}

static int check_hostname(const char *hostname, struct wisp_error *error)
{
	if (!hostname)
		return 0;
	size_t length = strlen(hostname);
	if (length >= 1 && length <= 63 &&
	        strspn(hostname, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == length)
		return 0;
	return lib_fail(error, WISP_ERR_INVALID, EINVAL,
	        "'%.80s' is not a host name: use up to 63 letters, digits, '.', '_' and '-'", hostname);
}

static int check_options(struct wisp_create_options *options, struct wisp_error *error)
{
	int r;
	if (options->cpus == 0)
		options->cpus = 1;
	if (options->memory_mib == 0)
		options->memory_mib = WISP_MEMORY_MIB_DEFAULT;
	if (options->disk_count > WISP_DISKS_MAX || (options->disk_count > 0 && !options->disks))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%zu disks: give at most %u", options->disk_count,
		        WISP_DISKS_MAX);
	if (options->writable && options->overlay)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "an image that is written to needs no overlay: omit one of the two");
	if (options->bare && (!options->no_wait || !options->kernel || options->image || options->writable ||
	                             options->overlay || options->disk_count > 0 || options->initramfs))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "bare boots a kernel alone: it requires kernel and no_wait, and takes no image, initramfs or "
		        "disks");
	if ((options->name && (r = lib_check_name(options->name, error)) < 0) ||
	        (r = check_machine(options, error)) < 0 || (r = lib_check_env(options->env, error)) < 0 ||
	        (r = lib_check_absolute(options->workdir, "the working directory", error)) < 0 ||
	        (r = lib_check_line(options->user, "the user", error)) < 0 ||
	        (r = lib_check_absolute(options->shell, "the shell", error)) < 0 ||
	        (r = check_hostname(options->hostname, error)) < 0 ||
	        (r = lib_check_line(options->kernel_args, "the kernel's parameters", error)) < 0 ||
	        (r = lib_check_duration(options->boot_timeout_ms, "the boot timeout", error)) < 0 ||
	        (r = lib_check_duration(options->stop_grace_ms, "the grace to stop", error)) < 0)
		return r;
	if (options->boot_timeout_ms == 0)
		options->boot_timeout_ms = WISP_BOOT_TIMEOUT_MS_DEFAULT;
	if (options->stop_grace_ms == 0)
		options->stop_grace_ms = WISP_STOP_GRACE_MS_DEFAULT;
	return 0;
}

/* The caller's strings, as they stand in the config; env is the caller's array and only read. */
static void make_config(const struct creation *creation, const char **env, const char **disks, struct config *config)
{
	const struct wisp_create_options *options = &creation->options;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	*config = (struct config){
	        .image = options->image ? creation->image : NULL,
	        .workdir = options->workdir,
	        .user = options->user,
	        .shell = options->shell,
	        .hostname = options->hostname,
	        .env = env,
	        .disks = disks,
	        .cpus = options->cpus,
	        .memory_mib = options->memory_mib,
	        .created_ns = now.tv_sec * NS_PER_S + now.tv_nsec,
	        .stop_grace_ms = options->stop_grace_ms,
	        .writable = options->writable,
	        .detach = options->detach,
	        .keep = options->keep,
	};
}

/* Claims the directory and fills the handle and the description with it. */
static int claim(struct creation *creation, const char *root, struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	char name[WISP_NAME_MAX + 1];
	struct config config;
	struct description *d = &creation->description;
	size_t count = 0;
	while (creation->options.env && creation->options.env[count])
		count++;
	const char **env = calloc(count + 1, sizeof(*env));
	if (!env)
		return lib_no_memory(error);
	for (size_t i = 0; i < count; i++)
		env[i] = creation->options.env[i];
	const char *disks[DESCRIPTION_DISKS_MAX + 1] = {NULL};
	for (size_t i = 0; i < DESCRIPTION_DISKS_MAX; i++)
		disks[i] = creation->disk_names[i];
	make_config(creation, env, disks, &config);
	int lock_fd;
	int r = state_claim(sandbox->root_fd, creation->options.name, &config, name, &sandbox->dir_fd, &lock_fd, error);
	free(env);
	if (r < 0)
		return r;
	creation->fds.lock = lock_fd;
	sandbox->name = strdup(name);
	if (asprintf(&sandbox->dir, "%s/%s", root, name) < 0)
		sandbox->dir = NULL;
	if (!sandbox->name || !sandbox->dir)
		r = lib_no_memory(error);
	else if ((r = config_read(sandbox->dir_fd, &sandbox->config)) < 0)
		lib_fail_errno(error, -r, "cannot read the configuration of the sandbox '%s'", name);
	description_set(d->name, sizeof(d->name), name);
	description_set(
	        d->hostname, sizeof(d->hostname), creation->options.hostname ? creation->options.hostname : name);
	return r;
}

static int start(struct creation *creation, struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	struct description_fds fds = creation->fds;
	pid_t pid;
	int status_fd;
	fds.root = sandbox->root_fd;
	fds.dir = sandbox->dir_fd;
	int r = launch_start(creation->helper, &creation->description, &fds,
	        options->console ? options->console_fd : NULL, &pid, &status_fd, error);
	if (r < 0)
		return r;
	sandbox->status_fd = status_fd;
	sandbox->child = pid;
	sandbox->owner = !options->detach;
	sandbox->phase = SANDBOX_BOOTING;
	sandbox->was_ready = options->bare; /* it never says so, and its records are kept all the same */
	sandbox->boot_deadline_ns = lib_deadline_ns(options->bare ? -1 : options->boot_timeout_ms + 2000);
	/* A detached one's is another process, known when it is ready. */
	if (sandbox->owner)
		sandbox->pidfd = pidfd_open(pid, 0);
	if (sandbox->owner && sandbox->pidfd < 0) {
		r = lib_fail_errno(error, errno, "cannot get a descriptor for the monitor's process");
		kill(pid, SIGKILL); /* nobody reaped it: the number is its */
		launch_reap(pid);
		sandbox->child = 0;
		sandbox->owner = false;
	}
	return r;
}

/* What was claimed and not started is nobody else's yet. */
static int claim_and_start(
        struct creation *creation, const char *root, struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	int r = claim(creation, root, sandbox, error);
	if (r == 0)
		r = start(creation, sandbox, error);
	/* The monitor's are the same open files, and keep the lock. */
	if (r == 0)
		description_close_fds(&creation->fds);
	if (r < 0 && creation->fds.lock >= 0) {
		state_discard(sandbox->root_fd, sandbox->dir_fd, creation->description.name, creation->fds.lock);
		creation->fds.lock = -1;
	}
	return r;
}

static void discard(struct wisp_sandbox *sandbox)
{
	/* Our child as long as nobody reaped it: the number is its. One that is detached by now sees our end close. */
	if (sandbox->child > 0)
		kill(sandbox->child, SIGKILL);
	wisp_close_sandbox(sandbox);
}

static int create(
        struct creation *creation, const char *root, int root_fd, struct wisp_sandbox **out, struct wisp_error *error)
{
	struct wisp_sandbox *sandbox = calloc(1, sizeof(*sandbox));
	if (!sandbox) {
		close(root_fd);
		return lib_no_memory(error);
	}
	pthread_mutex_init(&sandbox->lock, NULL);
	sandbox->root_fd = root_fd;
	sandbox->cancel = creation->cancel;
	sandbox->dir_fd = sandbox->pidfd = sandbox->status_fd = -1;
	sandbox->phase = SANDBOX_READY;
	int r = claim_and_start(creation, root, sandbox, error);
	if (r < 0) {
		wisp_close_sandbox(sandbox);
		return r;
	}
	if (!creation->options.no_wait)
		r = wisp_wait_ready(sandbox, -1, error);
	if (r < 0) {
		discard(sandbox);
		return r;
	}
	*out = sandbox;
	return 0;
}

int wisp_create_sandbox(
        const struct wisp_create_options *options, struct wisp_sandbox **sandbox, struct wisp_error *error)
{
	struct creation creation;
	int root_fd;
	char *root = NULL;
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	*sandbox = NULL;
	creation_init(&creation);
	int r = lib_copy_options(
	        &creation.options, sizeof(creation.options), options, "struct wisp_create_options", error);
	if (r == 0)
		r = check_options(&creation.options, error);
	if (r == 0)
		r = lib_copy_cancel(&creation.cancel, creation.options.cancel, &(struct lib_cancel){0}, error);
	if (r == 0)
		r = creation_describe(&creation, error);
	if (r == 0)
		r = state_open_root(creation.options.state_root, true, &root_fd, &root, error);
	if (r == 0)
		r = create(&creation, root, root_fd, sandbox, error);
	creation_free(&creation);
	free(root);
	return r;
}
