/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "agent/client.h"
#include "agent/session.h"

/*
 * Open files: the agent takes what it may have. Programs start with the limits that distributions start them with; one
 * that closes every descriptor up to its limit, or uses select(), suffers from a higher one.
 */
#define FILES_MAX 524288u
#define FILES_PROGRAM 1024u

#define LISTEN_AGAIN_NS (100u * 1000 * 1000) /* after accept() failed for want of something */

uint64_t agent_realtime(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void agent_log(struct agent *agent, const char *format, ...)
{
	char line[512];
	va_list arguments;
	if (!agent->hooks->log)
		return;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	agent->hooks->log(agent, line);
}

/* ---- Signals and children ---- */

static struct agent_session *session_of(struct agent *agent, pid_t pid)
{
	struct list *const lists[] = {&agent->running, &agent->starting};
	for (int i = 0; i < 2; i++)
		list_for_each_safe(node, next, lists[i])
		{
			struct agent_session *session = container_of(node, struct agent_session, node);
			if (session->pid == pid && !session->reaped)
				return session;
		}
	return NULL;
}

/* Any child: a session's, or an orphan that came to PID 1, which is of no interest. */
static void reap(struct agent *agent)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct agent_session *session = session_of(agent, pid);
		if (session)
			agent_session_reaped(session, status);
	}
	if (pid < 0 && errno == ECHILD && agent->hooks->childless)
		agent->hooks->childless(agent);
}

/* busybox poweroff sends SIGUSR2, halt SIGUSR1, reboot SIGTERM; the kernel sends SIGINT for ctrl-alt-del. */
static void signals_ready(struct poller_watch *watch, uint32_t events)
{
	struct agent *agent = container_of(watch, struct agent, signals);
	struct signalfd_siginfo signals[8];
	ssize_t count = events ? read(watch->fd, signals, sizeof(signals)) : 0;
	for (ssize_t i = 0; i < count / (ssize_t)sizeof(signals[0]); i++) {
		uint32_t number = signals[i].ssi_signo;
		if (number == SIGCHLD)
			reap(agent);
		else if (agent->hooks->power)
			agent->hooks->power(agent,
			        number == SIGUSR1 || number == SIGUSR2 ? AGENT_POWER_OFF : AGENT_POWER_REBOOT, 0);
	}
}

/*
 * All blocked before anything else happens, so that none is lost. SIGPIPE only has to do nothing: it is blocked as
 * well, not ignored, because programs would inherit that. For the same reason what the agent inherited is undone.
 */
static int set_up_signals(struct agent *agent)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	agent->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (agent->signals.fd < 0)
		return -errno;
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 1; i < NSIG; i++) {
		struct sigaction action;
		if (sigaction(i, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
			signal(i, SIG_DFL);
	}
	return poller_watch(&agent->poller, &agent->signals, EPOLLIN);
}

/* ---- The listener ---- */

static void listen_again(struct poller_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, listen_again);
	poller_watch(&agent->poller, &agent->listener, EPOLLIN);
}

/*
 * Only the host may connect: where the kernel has vsock loopback, any user of the guest could, and would be root then.
 */
static bool from_host(const struct sockaddr_storage *address, socklen_t length, uint32_t *port)
{
	struct sockaddr_vm peer;
	*port = 0;
	if (length < sizeof(peer) || address->ss_family != AF_VSOCK)
		return length < sizeof(address->ss_family) || address->ss_family == AF_UNIX;
	memcpy(&peer, address, sizeof(peer));
	*port = peer.svm_port;
	return peer.svm_cid == VMADDR_CID_HOST;
}

/* One connection an event: most come alone, and another call to learn that would be for nothing. */
static void listener_ready(struct poller_watch *watch, uint32_t events)
{
	struct agent *agent = container_of(watch, struct agent, listener);
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	int fd = events ? accept4(watch->fd, (struct sockaddr *)&address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
	if (fd >= 0) {
		uint32_t port;
		if (!from_host(&address, length, &port))
			close(fd);
		else if (port >= PROTO_PORT_FORWARD)
			agent_forward(&agent->forwards, fd, (uint16_t)port);
		else
			agent_client_serve(agent, fd, false);
		return;
	}
	if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
		return;
	/* No descriptors or no memory: the connection stays in the queue and would be told again at once, for ever. */
	agent_log(agent, "cannot accept a connection: %s", strerror(errno));
	poller_unwatch(&agent->poller, watch);
	poller_arm(&agent->poller, &agent->listen_again, poller_now() + LISTEN_AGAIN_NS);
}

int agent_listen(struct agent *agent, int fd)
{
	agent->listener.fd = fd;
	return poller_watch(&agent->poller, &agent->listener, EPOLLIN);
}

int agent_serve_connection(struct agent *agent, int fd)
{
	return agent_client_serve(agent, fd, false);
}

int agent_serve_control(struct agent *agent, int fd)
{
	return agent_client_serve(agent, fd, true);
}

/* ---- The agent ---- */

/* The null device for programs, and for the agent's own 0 to 2 where these are closed. */
static int open_null(struct agent *agent)
{
	do
		agent->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (agent->null_fd >= 0 && agent->null_fd <= 2);
	return agent->null_fd < 0 ? -errno : 0;
}

static void raise_files(struct agent *agent)
{
	struct rlimit files = {FILES_MAX, FILES_MAX};
	if (setrlimit(RLIMIT_NOFILE, &files) < 0 && getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	agent->files = (struct rlimit){FILES_PROGRAM, files.rlim_max};
	if (files.rlim_max < FILES_PROGRAM)
		agent->files.rlim_cur = files.rlim_max;
}

_Static_assert(AGENT_READ_BYTES <= FORWARD_CHUNK_LARGE, "the scratch memory takes any read");

int agent_init(struct agent *agent, const struct agent_hooks *hooks, void *owner)
{
	memset(agent, 0, offsetof(struct agent, scratch));
	agent->hooks = hooks;
	agent->owner = owner;
	agent->null_fd = agent->poller.epoll = -1;
	agent->listener = (struct poller_watch){.fd = -1, .ready = listener_ready};
	agent->signals = (struct poller_watch){.fd = -1, .ready = signals_ready};
	agent->listen_again.fire = listen_again;
	agent->next_session = 1;
	agent->patience_ns = CLIENT_PATIENCE_NS;
	agent->start_ns = SESSION_START_NS;
	list_init(&agent->clients);
	list_init(&agent->closing);
	list_init(&agent->idle);
	list_init(&agent->starting);
	list_init(&agent->running);
	list_init(&agent->ended);
	list_init(&agent->orphaned);
	list_init(&agent->mirror_behind);
	agent_freeze_init(&agent->freeze);
	agent_forwards_init(&agent->forwards, &agent->poller, &agent->listener, agent->scratch);
	agent_egress_init(&agent->egress, agent);
	agent_cgroups_init(&agent->cgroups, &agent->poller);
	raise_files(agent);
	int error = open_null(agent);
	if (!error)
		error = poller_init(&agent->poller);
	if (!error)
		error = set_up_signals(agent);
	return error;
}

void agent_destroy(struct agent *agent)
{
	struct list *const clients[] = {&agent->clients, &agent->closing, &agent->idle};
	struct list *const sessions[] = {&agent->starting, &agent->running, &agent->ended, &agent->orphaned};
	for (int i = 0; i < 3; i++)
		while (!list_empty(clients[i]))
			agent_client_free(container_of(clients[i]->next, struct agent_client, node));
	for (int i = 0; i < 4; i++)
		while (!list_empty(sessions[i]))
			agent_session_free(container_of(sessions[i]->next, struct agent_session, node));
	free(agent->spawn_spare);
	agent->spawn_spare = NULL;
	agent_egress_destroy(&agent->egress);
	agent_forwards_destroy(&agent->forwards);
	agent_cgroups_destroy(&agent->cgroups);
	poller_close(&agent->poller, &agent->listener);
	poller_close(&agent->poller, &agent->signals);
	poller_destroy(&agent->poller);
	if (agent->null_fd >= 0)
		close(agent->null_fd);
	agent->null_fd = -1;
}

int agent_run(struct agent *agent)
{
	return poller_run(&agent->poller);
}
