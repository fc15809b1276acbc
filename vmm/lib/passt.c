/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passt, which translates between the frames of a guest and sockets of the host, for users who may not make tap
 * devices. It gets one end of a socket pair. When the other end closes, with the monitor, it exits; so nothing has to
 * know its pid. It confines itself before it serves: no capabilities, namespaces of its own with an empty root, and a
 * filter of system calls.
 */
#include "vmm/lib/passt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/lib/launch.h"

#define SOCKET_FD 3
#define SOCKET_FD_TEXT "3"

/* On success, *heard is where it says why it cannot start. */
static int spawn(
        const char *program, const char *const *argv, int socket, pid_t *pid, int *heard, struct wisp_error *error)
{
	int said[2];
	if (pipe2(said, O_CLOEXEC) < 0)
		return lib_fail_errno(error, errno, "cannot make a pipe");
	/* Above the places where the child finds its own. */
	int log = fcntl(said[1], F_DUPFD_CLOEXEC, SOCKET_FD + 1);
	const struct launch_fd fds[] = {{log, 2}, {socket, SOCKET_FD}};
	int r = log < 0 ? errno : launch_spawn(program, argv, fds, 2, NULL, pid);
	if (log >= 0)
		close(log);
	close(said[1]);
	if (r != 0) {
		close(said[0]);
		return lib_fail(error, WISP_ERR_SETUP, r, "cannot start %s: %s: install the package passt", program,
		        strerrordesc_np(r));
	}
	*heard = said[0];
	return 0;
}

/* Waits until it serves, as a process that is not this one's child, or has ended. */
static int wait_started(const char *program, pid_t pid, int heard, int socket, const struct lib_cancel *cancel,
        struct wisp_error *error)
{
	struct launch_words words;
	int r = launch_hear(heard, program, pid, cancel, LAUNCH_LIMIT_MS, &words, error);
	if (launch_serves(pid, socket) || r < 0)
		return r;
	return lib_fail(error, WISP_ERR_SETUP, EIO, "%s could not start: %s", program,
	        launch_last_line(&words, "it gave no reason"));
}

/* What its command line has. */
struct arguments {
	size_t count;
	const char *argv[16 + 2 * WISP_PORTS_MAX];
	char mtu[12];
	char port[WISP_PORTS_MAX][LISTEN_TEXT_MAX + 16];
};

static void add(struct arguments *a, const char *option, const char *value)
{
	a->argv[a->count++] = option;
	if (value)
		a->argv[a->count++] = value;
}

/* "ADDRESS/PORT:GUEST-PORT" */
static int add_ports(struct arguments *a, const struct wisp_create_options *options, struct wisp_error *error)
{
	for (size_t i = 0; i < options->port_count && i < WISP_PORTS_MAX && options->ports; i++) {
		char text[LISTEN_TEXT_MAX];
		struct wisp_port given;
		struct listen_address address;
		int r = lib_copy_element(
		        &given, sizeof(given), options->ports, options->port_size, i, "struct wisp_port", error);
		if (r == 0)
			r = listen_parse(given.host, &address, error);
		if (r < 0)
			return r;
		if (!passt_takes(&address) || !listen_format(&address, text))
			continue;
		/* "[::1]:80" is "::1/80" */
		char *colon = strrchr(text, ':'), *host = text;
		*colon = '\0';
		if (*host == '[') {
			host++;
			colon[-1] = '\0';
		}
		snprintf(a->port[i], sizeof(a->port[i]), "%s/%u:%u", host, listen_port(&address), given.guest_port);
		add(a, "--tcp-ports", a->port[i]);
	}
	return 0;
}

bool passt_takes(const struct listen_address *address)
{
	return !listen_path(address) && listen_port(address) != 0;
}

int passt_start(const struct passt_options *options, const struct lib_cancel *cancel, int *fd, struct wisp_error *error)
{
	int pair[2], heard = -1;
	pid_t pid;
	struct arguments a = {.count = 0};
	snprintf(a.mtu, sizeof(a.mtu), "%u", options->mtu);
	add(&a, options->program, NULL);
	add(&a, "--quiet", NULL);
	add(&a, "--fd", SOCKET_FD_TEXT);
	add(&a, "--mtu", a.mtu);
	/* Else the guest reaches services of the host's loopback by the address of its gateway. */
	add(&a, "--no-map-gw", NULL);
	if (options->dns)
		add(&a, "--dns", options->dns);
	int r = add_ports(&a, options->create, error);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return lib_fail_errno(error, errno, "cannot make a socket pair");
	/* As much as the host allows: what does not fit into its socket, passt drops, and TCP sends it again. */
	for (unsigned i = 0; i < 2; i++)
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &(int){INT_MAX / 2}, sizeof(int));
	int theirs = fcntl(pair[1], F_DUPFD_CLOEXEC, SOCKET_FD + 1);
	r = theirs < 0 ? lib_fail_errno(error, errno, "cannot duplicate a descriptor")
	               : spawn(options->program, a.argv, theirs, &pid, &heard, error);
	if (theirs >= 0)
		close(theirs);
	close(pair[1]);
	if (r == 0)
		r = wait_started(options->program, pid, heard, pair[0], cancel, error);
	if (heard >= 0)
		close(heard);
	if (r < 0)
		close(pair[0]);
	else
		*fd = pair[0];
	return r;
}
