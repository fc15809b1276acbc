/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox uses: its monitor's counts, and what the host tells of the monitor's process. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/lib/manage.h"
#include "vmm/lib/port.h"
#include "vmm/lib/sandbox.h"
#include "vmm/shared/stats.h"

#define PROC_FILE_MAX 65536u

/* Owns what a wisp_stats points to. */
struct owner {
	struct wisp_stats stats;
	struct stats counts;
	struct wisp_device_stats devices[STATS_DEVICES_MAX];
	struct wisp_exit_stats exits[STATS_EXIT_KINDS];
	char name[WISP_NAME_MAX + 1];
};

void wisp_free_stats(struct wisp_stats *stats)
{
	free(stats);
}

/* ---- What the monitor says ---- */

static int receive(int fd, const struct lib_cancel *cancel, struct stats *counts)
{
	int64_t deadline_ns = lib_deadline_ns(PORT_ANSWER_MS);
	size_t done = 0;
	while (done < sizeof(*counts)) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		ssize_t n = recv(fd, (char *)counts + done, sizeof(*counts) - done, MSG_DONTWAIT);
		int r = 0;
		if (n > 0)
			done += (size_t)n;
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			r = lib_poll(cancel, &pfd, 1, deadline_ns);
		else if (n == 0 || errno != EINTR)
			r = -ECONNRESET;
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_device(const struct stats_device *device)
{
	size_t length = strspn(device->name, "abcdefghijklmnopqrstuvwxyz0123456789");
	return length > 0 && length < sizeof(device->name) && device->name[length] == '\0';
}

/* The monitor serves the guest: its answer is checked as the guest's would be. */
static bool is_valid(const struct stats *counts)
{
	bool valid = counts->size == sizeof(*counts) && !(counts->flags & ~(uint32_t)STATS_FLAGS_ALL) &&
	             counts->cpus <= WISP_CPUS_MAX && counts->device_count <= STATS_DEVICES_MAX &&
	             counts->exits_known < 1u << STATS_EXIT_KINDS && counts->zero == 0;
	for (uint32_t i = 0; valid && i < counts->device_count; i++)
		valid = memchr(counts->device[i].name, '\0', sizeof(counts->device[i].name)) &&
		        is_device(&counts->device[i]);
	return valid;
}

static int ask(struct wisp_sandbox *sandbox, struct stats *counts, struct wisp_error *error)
{
	struct manage_ask ask = {.op = MANAGE_STATS, .file = -1};
	int fd;
	int r = manage_connect(sandbox, &sandbox->cancel, &fd, error);
	if (r < 0)
		return r;
	r = manage_request(sandbox, fd, &sandbox->cancel, &ask, error);
	if (r == 0 && (r = receive(fd, &sandbox->cancel, counts)) < 0) {
		if (r == -ECANCELED || r == -EINTR)
			lib_fail_wait(error, r);
		else
			lib_fail(error, WISP_ERR_DISCONNECTED, -r,
			        "the monitor of the sandbox '%s' did not finish its answer: the sandbox has ended, or "
			        "its monitor hangs",
			        sandbox->name);
	} else if (r == 0 && !is_valid(counts)) {
		r = lib_fail(error, WISP_ERR_PROTOCOL, EPROTO, "the monitor of the sandbox '%s' violated the protocol",
		        sandbox->name);
	}
	close(fd);
	return r;
}

/* ---- What the host says ---- */

static char *read_proc(int32_t pid, const char *file)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	return pid > 0 ? lib_read_file(AT_FDCWD, path, PROC_FILE_MAX, NULL) : NULL;
}

/* In proc(5), guest_time is field 43, in clock ticks. The second field, a name, may have spaces in it. */
static bool read_guest_ns(int32_t pid, uint64_t *ns)
{
	char *text = read_proc(pid, "stat");
	char *at = text ? strrchr(text, ')') : NULL;
	for (int field = 2; at && field < 43; field++) {
		at = strchr(at, ' ');
		at += at != NULL;
	}
	unsigned long long ticks;
	long rate = sysconf(_SC_CLK_TCK);
	bool known = at && rate > 0 && sscanf(at, "%llu", &ticks) == 1;
	if (known)
		*ns = ticks * (NS_PER_S / (uint64_t)rate);
	free(text);
	return known;
}

static uint64_t read_resident(int32_t pid)
{
	char *text = read_proc(pid, "statm");
	unsigned long long pages = 0;
	if (text && sscanf(text, "%*u %llu", &pages) != 1)
		pages = 0;
	free(text);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- Both ---- */

static struct wisp_memory_stats memory_of(const struct stats_memory *memory)
{
	return (struct wisp_memory_stats){.resident = memory->resident,
	        .proportional = memory->proportional,
	        .private_only = memory->private,
	        .swapped = memory->swapped};
}

static void fill_devices(struct owner *owner)
{
	const struct stats *counts = &owner->counts;
	for (uint32_t i = 0; i < counts->device_count; i++) {
		const struct stats_device *device = &counts->device[i];
		owner->devices[i] = (struct wisp_device_stats){.name = device->name,
		        .bytes_to_guest = device->bytes_to_guest,
		        .bytes_from_guest = device->bytes_from_guest,
		        .operations_to_guest = device->operations_to_guest,
		        .operations_from_guest = device->operations_from_guest,
		        .operations_other = device->operations_other};
	}
	owner->stats.devices = owner->devices;
	owner->stats.device_count = counts->device_count;
}

static void fill_exits(struct owner *owner)
{
	const struct stats *counts = &owner->counts;
	struct wisp_stats *stats = &owner->stats;
	for (unsigned kind = 0; kind < STATS_EXIT_KINDS; kind++) {
		if (!(counts->exits_known >> kind & 1))
			continue;
		if (stats_exit_name(kind))
			owner->exits[stats->exit_count++] =
			        (struct wisp_exit_stats){.kind = stats_exit_name(kind), .count = counts->exits[kind]};
	}
	stats->exits_known = counts->exits_known & 1u << STATS_EXITS_ALL;
	stats->exits = counts->exits[STATS_EXITS_ALL];
	stats->exit_kinds = owner->exits;
}

static void fill(struct owner *owner, int32_t pid)
{
	const struct stats *counts = &owner->counts;
	struct wisp_stats *stats = &owner->stats;
	stats->name = owner->name;
	stats->uptime_ns = (int64_t)counts->uptime_ns;
	stats->cpu_ns = counts->cpu_ns;
	stats->loop_ns = counts->loop_ns;
	stats->cpus = counts->cpus;
	stats->vcpu_ns = counts->vcpu_ns;
	for (uint32_t i = 0; i < counts->cpus; i++)
		stats->vcpus_ns += counts->vcpu_ns[i];
	stats->guest_ns_known = read_guest_ns(pid, &stats->guest_ns);
	stats->memory_known = counts->flags & STATS_MEMORY;
	stats->guest_memory = memory_of(&counts->guest);
	stats->monitor_memory = memory_of(&counts->monitor);
	stats->resident = stats->memory_known ? counts->guest.resident + counts->monitor.resident : read_resident(pid);
	stats->sessions_running = counts->sessions_running;
	stats->sessions_ended = counts->sessions_ended;
	stats->sessions_failed = counts->sessions_failed;
	fill_devices(owner);
	fill_exits(owner);
}

int wisp_sandbox_stats(struct wisp_sandbox *sandbox, struct wisp_stats **stats, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(stats, "stats", error))
		return -EINVAL;
	*stats = NULL;
	struct owner *owner = calloc(1, sizeof(*owner));
	if (!owner)
		return lib_no_memory(error);
	snprintf(owner->name, sizeof(owner->name), "%s", sandbox->name);
	int r = wisp_get_sandbox_state(sandbox, &owner->stats.state, error);
	if (r == 0)
		r = ask(sandbox, &owner->counts, error);
	if (r < 0) {
		free(owner);
		return r;
	}
	fill(owner, state_pid(sandbox->dir_fd));
	*stats = &owner->stats;
	return 0;
}
