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
#include "vmm/lib/egress.h"
#include "vmm/lib/launch.h"
#include "vmm/lib/ports.h"
#include "vmm/lib/restore.h"
#include "vmm/lib/sandbox.h"
#include "vmm/lib/warm.h"

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

static int check_options(struct wisp_create_options *options, struct wisp_error *error)
{
	int r;
	if (options->cpus == 0)
		options->cpus = 1;
	if (options->memory_mib == 0)
		options->memory_mib = WISP_MEMORY_MIB_DEFAULT;
	if ((unsigned)options->jail > WISP_JAIL_OFF)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "there is no jail mode %d", (int)options->jail);
	if ((unsigned)options->engine > WISP_ENGINE_EPOLL)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "there is no engine %d", (int)options->engine);
	if (options->disk_count > WISP_DISKS_MAX || (options->disk_count > 0 && !options->disks))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%zu disks: give at most %u", options->disk_count,
		        WISP_DISKS_MAX);
	if (options->writable && options->overlay)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "an image that is written to needs no overlay: omit one of the two");
	if (!options->from && (options->copy_disks || options->is_template || options->prefetch))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "copies of disks, templates and prefetched memory are for sandboxes from a snapshot: set from");
	if (!options->from && options->bare &&
	        (!options->no_wait || !options->kernel || options->image || options->writable || options->overlay ||
	                options->disk_count > 0 || options->initramfs))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "bare boots a kernel alone: it requires kernel and no_wait, and takes no image, initramfs or "
		        "disks");
	if ((options->name && (r = lib_check_name(options->name, error)) < 0) ||
	        (r = check_machine(options, error)) < 0 || (r = lib_check_env(options->env, error)) < 0 ||
	        (r = lib_check_absolute(options->workdir, "the working directory", error)) < 0 ||
	        (r = lib_check_line(options->user, "the user", error)) < 0 ||
	        (r = lib_check_absolute(options->shell, "the shell", error)) < 0 ||
	        (r = lib_check_hostname(options->hostname, error)) < 0 ||
	        (r = lib_check_line(options->kernel_args, "the kernel's parameters", error)) < 0 ||
	        (r = lib_check_duration(options->boot_timeout_ms, "the boot timeout", error)) < 0 ||
	        (r = lib_check_duration(options->stop_grace_ms, "the grace to stop", error)) < 0 ||
	        (r = lib_check_duration(options->max_duration_ms, "the maximum duration", error)) < 0 ||
	        (r = lib_check_duration(options->idle_timeout_ms, "the idle timeout", error)) < 0)
		return r;
	struct cgroup_limits limits = creation_limits(options);
	if ((r = cgroup_check(&limits, options->cpus, error)) < 0)
		return r;
	if (options->bare && options->idle_timeout_ms > 0)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a bare sandbox has no sessions, so that it cannot have an idle timeout: omit it");
	if (options->boot_timeout_ms == 0)
		options->boot_timeout_ms = WISP_BOOT_TIMEOUT_MS_DEFAULT;
	if (options->stop_grace_ms == 0)
		options->stop_grace_ms = WISP_STOP_GRACE_MS_DEFAULT;
	return 0;
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
	/* A bare one that boots never says that it is ready, and its records are kept all the same. */
	sandbox->was_ready = options->bare && !options->from;
	sandbox->boot_deadline_ns = lib_deadline_ns(sandbox->was_ready ? -1 : options->boot_timeout_ms + 2000);
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
	int r = creation_claim(creation, root, sandbox, error);
	if (r == 0)
		r = creation_copy_disks(creation, sandbox, error);
	/* A template never runs: its clones have the way to the network. */
	if (r == 0 && !creation->options.is_template)
		r = egress_listen(sandbox, &creation->egress, error);
	if (r == 0)
		r = start(creation, sandbox, error);
	/* The monitor's are the same open files, and keep the lock. */
	if (r == 0)
		description_close_fds(&creation->fds);
	else
		creation_unclaim(creation, sandbox);
	return r;
}

static void discard(struct wisp_sandbox *sandbox)
{
	/* Our child as long as nobody reaped it: the number is its. One that is detached by now sees our end close. */
	if (sandbox->child > 0)
		kill(sandbox->child, SIGKILL);
	wisp_close_sandbox(sandbox);
}

int creation_start(
        struct creation *creation, const char *root, int root_fd, struct wisp_sandbox **out, struct wisp_error *error)
{
	struct wisp_sandbox *sandbox = sandbox_new(root_fd, &creation->cancel);
	if (!sandbox)
		return lib_no_memory(error);
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

int creation_prepare(struct creation *creation, struct wisp_error *error)
{
	int r = creation->options.from ? restore_open(creation, error) : 0;
	if (r == 0)
		r = check_options(&creation->options, error);
	if (r == 0)
		r = lib_copy_cancel(&creation->cancel, creation->options.cancel, &(struct lib_cancel){0}, error);
	if (r == 0)
		r = creation_prepare_egress(creation, error);
	if (r == 0)
		r = creation->restore ? restore_describe(creation, error) : creation_describe(creation, error);
	return r < 0 ? r : creation_set_rates(creation, error);
}

/* Whether the snapshot is to blame, or the caller, whose sandbox would not boot either. */
static bool is_refused(const struct wisp_error *why)
{
	return why->status == WISP_ERR_SNAPSHOT || why->status == WISP_ERR_SETUP ||
	       why->status == WISP_ERR_BOOT_FAILED || why->status == WISP_ERR_BOOT_TIMEOUT;
}

/* 1 if it started from the configuration's snapshot, 0 if it has to boot. */
static int start_warm(const struct creation *cold, const struct warm *warm, const char *root, int root_fd,
        struct wisp_sandbox **out, struct wisp_error *error)
{
	struct creation creation;
	struct wisp_error why;
	int fd = warm_open(warm);
	if (fd < 0)
		return 0;
	creation_init(&creation);
	int r = warm_describe(warm, fd, cold, &creation, &why);
	if (r == 0)
		r = creation_start(&creation, root, fcntl(root_fd, F_DUPFD_CLOEXEC, 0), out, &why);
	creation_free(&creation);
	if (r == 0) {
		(*out)->warm = true;
		r = 1;
	} else if (why.status == WISP_ERR_CANCELLED || why.status == WISP_ERR_NAME_TAKEN) {
		if (error)
			*error = why;
	} else {
		if (is_refused(&why))
			warm_discard(warm, fd);
		r = 0;
	}
	close(fd);
	return r;
}

static int try_warm(
        const struct creation *cold, const char *root, int root_fd, struct wisp_sandbox **out, struct wisp_error *error)
{
	struct warm warm;
	int r = warm_locate(cold, &warm, error);
	if (r == 0)
		r = start_warm(cold, &warm, root, root_fd, out, error);
	warm_close(&warm);
	return r;
}

/* The monitor takes ports when it is ready: now, or when the caller waits for that. */
static int give_ports(struct ports **ports, bool later, struct wisp_sandbox **sandbox, struct wisp_error *error)
{
	int r = 0;
	if (later) {
		(*sandbox)->ports = *ports;
		*ports = NULL;
	} else {
		r = ports_pass(*sandbox, ports, error);
	}
	if (r < 0) {
		sandbox_destroy(*sandbox);
		*sandbox = NULL;
	}
	return r;
}

int wisp_create_sandbox(
        const struct wisp_create_options *options, struct wisp_sandbox **sandbox, struct wisp_error *error)
{
	struct creation creation;
	int root_fd = -1;
	char *root = NULL;
	struct ports *ports = NULL;
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	*sandbox = NULL;
	creation_init(&creation);
	int r = lib_copy_options(
	        &creation.options, sizeof(creation.options), options, "struct wisp_create_options", error);
	if (r == 0 && creation.options.warm)
		r = warm_check(&creation.options, error);
	if (r == 0)
		r = creation_prepare(&creation, error);
	if (r == 0)
		r = state_open_root(creation.options.state_root, true, &root_fd, &root, error);
	if (r == 0)
		r = ports_open(
		        &creation.options, creation.description.net.port == DESCRIPTION_NET_STREAM, &ports, error);
	if (r == 0 && creation.options.warm)
		r = try_warm(&creation, root, root_fd, sandbox, error);
	if (r == 0) {
		r = creation_start(&creation, root, root_fd, sandbox, error);
		root_fd = -1;
	}
	if (r >= 0)
		r = give_ports(&ports, creation.options.no_wait, sandbox, error);
	ports_close(ports);
	if (root_fd >= 0)
		close(root_fd);
	creation_free(&creation);
	free(root);
	return r < 0 ? r : 0;
}
