/* SPDX-License-Identifier: Apache-2.0 */
/* Faults in wisp-vmm, which the library starts as usual; the guest is tests/payload/payload.c. Needs any /dev/kvm. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/faults/driver.h"
#include "vmm/shared/proto.h"

#define WAIT_MS 9000

static char payload[PATH_MAX], monitor[PATH_MAX], server[PATH_MAX];
static char saved[] = "/tmp/wisp-faults-XXXXXX"; /* a snapshot, made without faults */

/* The monitor looks for its plan where it is started from. wisp-fs, of which the guest here wants nothing, is real. */
static void put_monitor(struct fault_run *run, char helper[PATH_MAX])
{
	char path[PATH_MAX];
	snprintf(helper, PATH_MAX, "%s/wisp-vmm", run->dir);
	if (symlink(monitor, helper) < 0)
		abort();
	snprintf(path, sizeof(path), "%s/wisp-fs", run->dir);
	if (symlink(server, path) < 0)
		abort();
}

static void write_image(const char *path, bool squashfs)
{
	unsigned char super[4096] = {0x68, 0x73, 0x71, 0x73, [40] = 0x00, [41] = 0x10}; /* squashfs of 4096 bytes */
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || (squashfs ? write(fd, super, sizeof(super)) : ftruncate(fd, 1 << 20)) < 0)
		abort();
	close(fd);
}

/* Creates the sandbox; NULL if that fails, as it may. */
static struct wisp_sandbox *begin(struct fault_run *run, struct wisp_create_options *options)
{
	char helper[PATH_MAX], image[PATH_MAX], disk[PATH_MAX], initramfs[PATH_MAX];
	struct wisp_disk disks[] = {{.path = disk}};
	struct wisp_folder folders[] = {{.path = run->dir, .guest = "/work"}};
	/* A program that leaves at once: the link is down as soon as a driver looks. */
	struct wisp_net net = {.size = sizeof(net), .kind = WISP_NET_PASST, .program = "/bin/true"};
	struct wisp_sandbox *sandbox;
	struct wisp_error error = {0};
	put_monitor(run, helper);
	snprintf(image, sizeof(image), "%s/image", run->dir);
	snprintf(disk, sizeof(disk), "%s/disk", run->dir);
	snprintf(initramfs, sizeof(initramfs), "%s/initramfs", run->dir);
	options->size = sizeof(*options);
	options->state_root = run->root;
	options->helper = helper;
	options->libdir = run->dir;
	options->no_wait = true;
	if (!options->from) {
		options->kernel = payload;
		options->memory_mib = WISP_MEMORY_MIB_MIN;
	}
	if (!options->from && !options->bare) {
		write_image(image, true);
		write_image(disk, false);
		write_image(initramfs, true);
		options->image = image;
		options->initramfs = initramfs;
		options->disks = disks;
		options->disk_count = 1;
		options->disk_size = sizeof(disks[0]);
		options->net = &net;
		options->folders = folders;
		options->folder_count = 1;
		options->folder_size = sizeof(folders[0]);
	}
	int r = wisp_create_sandbox(options, &sandbox, &error);
	return fault_check(run, "create", r, &error) ? sandbox : NULL;
}

/* Waits for the end, which has to be explained, and closes the sandbox. */
static void end_of(struct fault_run *run, struct wisp_sandbox *sandbox, enum wisp_end wanted)
{
	struct wisp_error error = {0};
	enum wisp_end end = WISP_END_UNKNOWN;
	if (fault_check(run, "wait", wisp_wait_sandbox(sandbox, WAIT_MS, &end, &error), &error) && end != wanted) {
		if (wisp_wait_ready(sandbox, 0, &error) < 0)
			fault_check(run, "boot", -error.errnum, &error);
		fault_report(run, "its end: %s", wisp_get_end_name(end));
		if (end == WISP_END_UNKNOWN && error.status != WISP_ERR_SETUP)
			fault_violation(run, "the monitor does not say how it ended: %s", run->error);
	}
	if (error.status == WISP_ERR_AGAIN)
		fault_violation(run, "it does not end: %s (%s)", error.message, run->error);
	wisp_close_sandbox(sandbox);
}

static void bare_poweroff(struct fault_run *run)
{
	struct wisp_create_options options = {.bare = true, .kernel_args = "payload=poweroff"};
	struct wisp_sandbox *sandbox = begin(run, &options);
	if (sandbox)
		end_of(run, sandbox, WISP_END_POWEROFF);
}

static void two_vcpus_traced(struct fault_run *run)
{
	struct wisp_create_options options = {
	        .bare = true, .cpus = 2, .trace = true, .console = true, .kernel_args = "payload=print"};
	struct wisp_sandbox *sandbox = begin(run, &options);
	if (sandbox)
		end_of(run, sandbox, WISP_END_POWEROFF);
}

static void stop_while_booting(struct fault_run *run)
{
	struct wisp_create_options options = {.bare = true, .kernel_args = "payload=spin"};
	struct wisp_sandbox *sandbox = begin(run, &options);
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	fault_check(run, "stop", wisp_stop_sandbox(sandbox, WAIT_MS, &error), &error);
	end_of(run, sandbox, WISP_END_KILLED);
}

static void devices(struct fault_run *run)
{
	struct wisp_create_options options = {.kernel_args = "payload=poweroff"};
	struct wisp_sandbox *sandbox = begin(run, &options);
	if (sandbox)
		end_of(run, sandbox, WISP_END_POWEROFF);
}

/* Until something listens there. -1 if nothing ever does. */
static int connect_to(struct fault_run *run, const char *name)
{
	static const struct timespec pause = {.tv_nsec = 5000000};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/box/%s", run->root, name);
	for (int i = 0; i < WAIT_MS / 5; i++) {
		if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
			return fd;
		if (access(run->root, F_OK) == 0 && access(address.sun_path, F_OK) != 0 && i > 0 && run->plan->ended)
			break;
		nanosleep(&pause, NULL);
	}
	close(fd);
	return -1;
}

/* This process is the agent: it says that it is ready, and tells of a session. */
static void speak(int fd)
{
	struct proto_hello hello = {.magic = PROTO_MAGIC, .version = PROTO_VERSION};
	struct {
		struct proto_frame frame;
		struct proto_event event;
		char data[5];
	} __attribute__((packed)) event = {.frame = {.length = sizeof(struct proto_event) + 5, .type = PROTO_EVENT},
	        .event = {.session = 1, .type = PROTO_STDOUT},
	        .data = "hello"};
	struct proto_frame frame = {.length = sizeof(hello), .type = PROTO_HELLO};
	char bytes[sizeof(frame) + sizeof(hello)];
	memcpy(bytes, &frame, sizeof(frame));
	memcpy(bytes + sizeof(frame), &hello, sizeof(hello));
	(void)!send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
	(void)!send(fd, &event, sizeof(event), MSG_NOSIGNAL);
}

static void await_reader(struct fault_run *run, int fd)
{
	static const struct timespec pause = {.tv_nsec = 2000000};
	int unread = 1;
	for (int i = 0; i < 2000 && ioctl(fd, TIOCOUTQ, &unread) == 0 && unread > 0; i++)
		nanosleep(&pause, NULL);
	if (unread > 0)
		fault_violation(run, "the socket device does not read");
}

static void be_ready(struct fault_run *run, enum wisp_engine engine)
{
	struct wisp_create_options options = {.name = "box", .kernel_args = "payload=spin", .engine = engine};
	struct wisp_sandbox *sandbox = begin(run, &options);
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	int agent = connect_to(run, "vsock.sock_1024");
	if (agent >= 0)
		speak(agent);
	if (fault_check(run, "ready", wisp_wait_ready(sandbox, WAIT_MS, &error), &error)) {
		/* The guest has no driver for the device, but the monitor reads what it is asked for. */
		int client = connect_to(run, "vsock.sock");
		if (client >= 0) {
			(void)!send(client, "CONNECT 7\n", 10, MSG_NOSIGNAL);
			await_reader(run, client);
			close(client);
		}
	}
	wisp_close_sandbox(sandbox);
	if (agent >= 0)
		close(agent);
}

static void guest_is_ready(struct fault_run *run)
{
	be_ready(run, WISP_ENGINE_IO_URING);
}

static void guest_is_ready_with_epoll(struct fault_run *run)
{
	be_ready(run, WISP_ENGINE_EPOLL);
}

static void boot_timeout(struct fault_run *run)
{
	struct wisp_create_options options = {.kernel_args = "payload=spin", .boot_timeout_ms = 200};
	struct wisp_sandbox *sandbox = begin(run, &options);
	if (sandbox)
		end_of(run, sandbox, WISP_END_BOOT_TIMEOUT);
}

/* ---- Pausing, saving, forking ---- */

/* Until the monitor can be asked for something, or has ended: a payload is never ready. */
static void await_monitor(struct wisp_sandbox *sandbox)
{
	static const struct timespec pause = {.tv_nsec = 2000000};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/monitor.sock", wisp_get_sandbox_dir(sandbox));
	for (int i = 0; i < WAIT_MS / 2; i++) {
		if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 ||
		        wisp_wait_sandbox(sandbox, 0, NULL, NULL) == 0)
			break;
		nanosleep(&pause, NULL);
	}
	close(fd);
}

static struct wisp_sandbox *begin_spinning(struct fault_run *run)
{
	struct wisp_create_options options = {.name = "box", .bare = true, .cpus = 2, .kernel_args = "payload=spin"};
	struct wisp_sandbox *sandbox = begin(run, &options);
	if (sandbox)
		await_monitor(sandbox);
	return sandbox;
}

static bool goes_on(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	enum wisp_sandbox_state state;
	return wisp_pause_sandbox(sandbox, error) == 0 && wisp_resume_sandbox(sandbox, error) == 0 &&
	       wisp_get_sandbox_state(sandbox, &state, error) == 0 && state == WISP_SANDBOX_RUNNING;
}

/*
 * Whatever became of a request, its sandbox goes on as before, or it ends and says why. The fault may yet come in one
 * of these requests, but not in both.
 */
static void lives_on(struct fault_run *run, struct wisp_sandbox *sandbox)
{
	struct wisp_error error = {0};
	if (goes_on(sandbox, &error) || goes_on(sandbox, &error)) {
		wisp_close_sandbox(sandbox);
		return;
	}
	fault_report(run, "the sandbox does not go on: %s", error.message);
	end_of(run, sandbox, WISP_END_UNKNOWN);
}

static void pause_and_resume(struct fault_run *run)
{
	struct wisp_sandbox *sandbox = begin_spinning(run);
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	if (fault_check(run, "pause", wisp_pause_sandbox(sandbox, &error), &error))
		fault_check(run, "resume", wisp_resume_sandbox(sandbox, &error), &error);
	lives_on(run, sandbox);
}

static void stop_while_paused(struct fault_run *run)
{
	struct wisp_sandbox *sandbox = begin_spinning(run);
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	fault_check(run, "pause", wisp_pause_sandbox(sandbox, &error), &error);
	fault_check(run, "stop", wisp_stop_sandbox(sandbox, WAIT_MS, &error), &error);
	end_of(run, sandbox, WISP_END_KILLED);
}

static void snapshot(struct fault_run *run)
{
	struct wisp_sandbox *sandbox = begin_spinning(run);
	char file[96];
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	snprintf(file, sizeof(file), "%s/snapshot", run->dir);
	fault_check(run, "save", wisp_snapshot_sandbox(sandbox, file, NULL, &error), &error);
	if (access(file, F_OK) == 0 && wisp_verify_snapshot(file, NULL, &error) < 0)
		fault_violation(run, "the snapshot is not whole: %s", error.message);
	if (access(file, F_OK) == 0 && run->error[0])
		fault_violation(run, "a file is left: %s", run->error);
	lives_on(run, sandbox);
}

static void restore(struct fault_run *run)
{
	struct wisp_create_options options = {.from = saved};
	struct wisp_sandbox *sandbox = begin(run, &options);
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	if (fault_check(run, "ready", wisp_wait_ready(sandbox, WAIT_MS, &error), &error))
		lives_on(run, sandbox);
	else
		wisp_close_sandbox(sandbox);
}

static bool fork_clones(struct fault_run *run, struct wisp_sandbox *sandbox)
{
	struct wisp_fork_options options = {.size = sizeof(options), .name = "clone"};
	struct wisp_sandbox *clones[2];
	struct wisp_error error = {0};
	if (!fault_check(run, "fork", wisp_fork_sandbox(sandbox, 2, &options, clones, &error), &error))
		return false;
	for (int i = 0; i < 2; i++) {
		await_monitor(clones[i]);
		lives_on(run, clones[i]);
	}
	return true;
}

static void fork_two(struct fault_run *run)
{
	struct wisp_sandbox *sandbox = begin_spinning(run);
	if (!sandbox)
		return;
	fork_clones(run, sandbox);
	lives_on(run, sandbox);
}

static void fork_template(struct fault_run *run)
{
	struct wisp_create_options options = {.from = saved, .is_template = true, .detach = true};
	struct wisp_sandbox *sandbox = begin(run, &options);
	struct wisp_error error = {0};
	if (!sandbox)
		return;
	if (fault_check(run, "ready", wisp_wait_ready(sandbox, WAIT_MS, &error), &error) && !fork_clones(run, sandbox))
		fork_clones(run, sandbox); /* once more, without a fault */
	fault_check(run, "stop", wisp_stop_sandbox(sandbox, WAIT_MS, &error), &error);
	wisp_close_sandbox(sandbox);
}

/* With the monitor under test, but outside of any run: it finds no plan. */
static bool save_one(void)
{
	char dir[sizeof(saved) + 8];
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	if (!mkdtemp(saved))
		return false;
	snprintf(dir, sizeof(dir), "%s/state", saved);
	struct wisp_create_options options = {.size = sizeof(options),
	        .state_root = dir,
	        .name = "box",
	        .helper = monitor,
	        .libdir = dir,
	        .kernel = payload,
	        .kernel_args = "payload=spin",
	        .memory_mib = WISP_MEMORY_MIB_MIN,
	        .cpus = 2,
	        .bare = true,
	        .no_wait = true};
	if (wisp_create_sandbox(&options, &sandbox, &error) < 0) {
		printf("# %s\n", error.message);
		return false;
	}
	await_monitor(sandbox);
	char file[sizeof(saved) + 12];
	snprintf(file, sizeof(file), "%s.snapshot", saved);
	int r = wisp_snapshot_sandbox(sandbox, file, NULL, &error);
	if (r < 0)
		printf("# %s\n", error.message);
	wisp_close_sandbox(sandbox);
	rmdir(dir);
	rmdir(saved);
	return r == 0 && rename(file, saved) == 0;
}

int main(int argc, char **argv)
{
	static const struct fault_scenario scenarios[] = {{"bare_poweroff", bare_poweroff},
	        {"two_vcpus_traced", two_vcpus_traced}, {"stop_while_booting", stop_while_booting},
	        {"devices", devices}, {"guest_is_ready", guest_is_ready},
	        {"guest_is_ready_with_epoll", guest_is_ready_with_epoll}, {"boot_timeout", boot_timeout},
	        {"pause_and_resume", pause_and_resume}, {"stop_while_paused", stop_while_paused},
	        {"snapshot", snapshot}, {"restore", restore}, {"fork_two", fork_two}, {"fork_template", fork_template},
	        {0}};
	const char *path = getenv("PAYLOAD");
	if (!realpath(path ? path : "build/tests/payload/payload", payload)) {
		perror("payload");
		return 1;
	}
	/* Next to this program. */
	if (!realpath("/proc/self/exe", monitor))
		return 1;
	snprintf(
	        server, sizeof(server), "%.*s/../../lib/wisp/wisp-fs", (int)(strrchr(monitor, '/') - monitor), monitor);
	snprintf(strrchr(monitor, '/') + 1, 16, "wisp-vmm");
	if (access("/dev/kvm", R_OK | W_OK) != 0) {
		printf("skip faults-monitor: no /dev/kvm\n");
		return 0;
	}
	if (!save_one())
		return 1;
	int code = fault_main("monitor", monitor, scenarios, argc, argv);
	unlink(saved);
	return code;
}
