/* SPDX-License-Identifier: Apache-2.0 */
/* PID 1 of the guest: the options of the kernel's command line, then one stage after the other. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "agent/folders.h"
#include "agent/init.h"
#include "agent/net.h"
#include "vmm/shared/platform.h"
#include "agent/power.h"
#include "agent/serve.h"

/* What the agent's hooks need. */
struct guest {
	struct folders folders;
	struct power power;
	struct net net;
};

static const char *value_of(const char *argument, const char *key)
{
	size_t length = strlen(key);
	return strncmp(argument, key, length) == 0 ? argument + length : NULL;
}

/* The kernel adds words of its command line that it does not know itself: those are nobody's here either. */
static struct init_options parse_options(int argc, char **argv)
{
	struct init_options options = {0};
	for (int i = 1; i < argc; i++) {
		const char *value;
		if ((value = value_of(argv[i], "root=")))
			options.root = value;
		else if ((value = value_of(argv[i], "overlay=")))
			options.overlay = value;
		else if ((value = value_of(argv[i], "host=")))
			options.host = value;
		else if ((value = value_of(argv[i], "cpus=")))
			options.cpus = strtol(value, NULL, 10);
		else if ((value = value_of(argv[i], "net=")))
			options.net = value;
		else if ((value = value_of(argv[i], "net6=")))
			options.net6 = value;
		else if ((value = value_of(argv[i], "mode=")))
			options.read_only = strcmp(value, "ro") == 0;
		else if ((value = value_of(argv[i], "folder=")) && options.folder_count < FOLDERS_MAX)
			options.folders[options.folder_count++] = value;
		else if ((value = value_of(argv[i], "stamps=")))
			options.stamps = strcmp(value, "1") == 0;
	}
	return options;
}

/* A listening vsock, or -errno. */
static int listen_vsock(void)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PROTO_PORT_AGENT};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, FORWARDS_MAX) == 0)
		return fd;
	int error = errno;
	close(fd);
	return -error;
}

/* A connection to a port of the host, or -errno. With SOCK_NONBLOCK it may be under way. */
static int dial_port(uint32_t port, int flags)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EINPROGRESS)
		return fd;
	int error = errno;
	close(fd);
	return -error;
}

static int dial_control(struct agent *agent)
{
	(void)agent;
	return dial_port(PROTO_PORT_CONTROL, 0);
}

static int dial(struct agent *agent, uint32_t port)
{
	(void)agent;
	return dial_port(port, SOCK_NONBLOCK);
}

/* The host is not obliged to listen; the guest is as usable without. */
static void connect_control(struct agent *agent)
{
	int fd = dial_control(agent);
	if (fd >= 0)
		agent_serve_control(agent, fd);
	else
		agent_log(agent, "no control connection: %s", strerror(-fd));
}

static void begin_power(struct agent *agent, enum agent_power wanted, uint32_t grace_ms)
{
	struct guest *guest = agent->owner;
	power_begin(&guest->power, wanted, grace_ms);
}

static void childless(struct agent *agent)
{
	struct guest *guest = agent->owner;
	power_childless(&guest->power);
}

static void step_clock(struct agent *agent, uint64_t realtime_ns)
{
	struct timespec time = {
	        .tv_sec = (time_t)(realtime_ns / 1000000000u), .tv_nsec = (long)(realtime_ns % 1000000000u)};
	if (clock_settime(CLOCK_REALTIME, &time) < 0)
		agent_log(agent, "cannot set the clock: %s", strerror(errno));
}

static int renew(struct agent *agent, const struct proto_thaw *thaw)
{
	struct guest *guest = agent->owner;
	int error = identity_reseed(&init_identity, thaw->seed);
	if (error) {
		init_fail("cannot reseed the random generator: %s", strerror(-error));
		return error;
	}
	if ((error = identity_renew(&init_identity, thaw)))
		agent_log(agent, "cannot give the machine its new name and ids: %s", strerror(-error));
	folders_refresh(&guest->folders);
	net_again(&guest->net);
	return 0;
}

static void log_line(struct agent *agent, const char *line)
{
	(void)agent;
	init_log(line);
}

/* Serves until the guest is to end. 0, or -errno after a line on the console. */
static int serve(const struct init_options *options, struct guest *guest)
{
	static const struct agent_hooks hooks = {.power = begin_power,
	        .childless = childless,
	        .step_clock = step_clock,
	        .reconnect = dial_control,
	        .dial = dial,
	        .renew = renew,
	        .log = log_line};
	struct agent *agent = malloc(sizeof(*agent));
	int error = agent ? agent_init(agent, &hooks, guest) : -ENOMEM;
	if (error) {
		init_fail("cannot start: %s", strerror(-error));
		return error;
	}
	power_init(&guest->power, agent);
	net_serve(&guest->net, &agent->poller);
	if ((error = agent_cgroups_use(&agent->cgroups, "/sys/fs/cgroup")))
		agent_log(agent, "sessions have no cgroups, and a timeout reaches process groups alone: %s",
		        strerror(-error));
	int listener = listen_vsock();
	error = listener < 0 ? listener : agent_listen(agent, listener);
	if (error) {
		init_fail("cannot listen on vsock port %u: %s", PROTO_PORT_AGENT, strerror(-error));
		return error;
	}
	connect_control(agent);
	if (options->stamps)
		power_write_port(PLATFORM_PORT_STAMP, PLATFORM_STAMP_READY);
	error = agent_run(agent);
	if (error)
		init_fail("cannot go on: %s", strerror(-error));
	return error;
}

int main(int argc, char **argv)
{
	if (getpid() != 1) {
		fprintf(stderr, "wisp-agent: this is PID 1 of a guest, and nothing else\n");
		return 1;
	}
	struct init_options options = parse_options(argc, argv);
	if (options.stamps)
		power_write_port(PLATFORM_PORT_STAMP, PLATFORM_STAMP_INIT);
	struct guest guest = {0};
	int over_fd = -1;
	bool failed = init_guest(&options, &guest.folders, &over_fd) != 0;
	if (!failed) {
		net_begin(&guest.net, options.net, options.net6, init_log);
		failed = serve(&options, &guest) != 0;
	}
	init_undo(over_fd);
	if (failed)
		power_off(PLATFORM_POWER_FAILED);
	if (guest.power.wanted == AGENT_POWER_REBOOT)
		power_reboot();
	power_off(PLATFORM_POWER_OFF);
}
