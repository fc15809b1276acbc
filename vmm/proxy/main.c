/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp-proxy: connects a sandbox's guest to what its rules allow. libwisp starts it; it is not a command for users. It
 * finds everything at fixed descriptors (vmm/shared/egress.h), and ends with the sandbox's monitor.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/proxy/proxy.h"
#include "vmm/shared/confine.h"

#define RULES_MAX ((off_t)2 << 20) /* bytes */
#define STACK_BYTES ((size_t)(CONFINE_SANITIZED ? 1 << 20 : 128 << 10))
#define ACCEPT_PAUSE_MS 100 /* after accept() failed for want of something */

struct client {
	struct proxy *proxy;
	int fd;
	int ended; /* where the thread says so */
};

static void *serve(void *argument)
{
	struct client client = *(struct client *)argument;
	free(argument);
	serve_client(client.proxy, client.fd);
	(void)!write(client.ended, "", 1);
	return NULL;
}

/* ---- Before the guest ---- */

/* Tells the library, which waits for it. */
static void say(const char *line)
{
	(void)!write(EGRESS_STATUS_FD, line, strlen(line));
	close(EGRESS_STATUS_FD);
}

static int fail(const char *what, int error)
{
	char line[160];
	snprintf(line, sizeof(line), "%s: %s\n", what, strerror(error));
	say(line);
	return 1;
}

/* The whole file, with a NUL, or NULL with errno. */
static char *read_rules(void)
{
	struct stat st;
	char *text = NULL;
	if (fstat(EGRESS_RULES_FD, &st) < 0)
		return NULL;
	errno = EINVAL;
	if (st.st_size < 0 || st.st_size > RULES_MAX || !(text = calloc(1, (size_t)st.st_size + 1)))
		return NULL;
	if (pread(EGRESS_RULES_FD, text, (size_t)st.st_size, 0) == (ssize_t)st.st_size)
		return text;
	free(text);
	return NULL;
}

static int take_rules(struct egress_rules *rules)
{
	char *text = read_rules();
	int r = text ? egress_read_rules(text, rules) : -errno;
	free(text);
	close(EGRESS_RULES_FD);
	return r;
}

/* ---- Serving ---- */

static void start_thread(struct proxy *proxy, const pthread_attr_t *attributes, int fd, int ended)
{
	struct client *client = malloc(sizeof(*client));
	pthread_t thread;
	if (client) {
		*client = (struct client){.proxy = proxy, .fd = fd, .ended = ended};
		if (pthread_create(&thread, attributes, serve, client) == 0)
			return;
		free(client);
	}
	close(fd);
	(void)!write(ended, "", 1);
}

/*
 * Until the monitor ends. More clients than threads wait in the backlog: `ended` tells of a thread's end, and only this
 * thread counts.
 */
static void accept_clients(struct proxy *proxy, const int ended[2])
{
	pthread_attr_t attributes;
	unsigned running = 0;
	bool short_of = false;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	for (;;) {
		char bytes[EGRESS_CONNECTIONS_MAX];
		bool full = running >= EGRESS_CONNECTIONS_MAX || short_of;
		struct pollfd pfds[] = {{.fd = EGRESS_MONITOR_FD, .events = POLLIN}, {.fd = ended[0], .events = POLLIN},
		        {.fd = full ? -1 : EGRESS_LISTEN_FD, .events = POLLIN}};
		poll(pfds, 3, short_of ? ACCEPT_PAUSE_MS : -1);
		short_of = false;
		if (pfds[0].revents)
			return;
		ssize_t n = pfds[1].revents ? read(ended[0], bytes, sizeof(bytes)) : 0;
		running -= n > 0 ? (unsigned)n : 0;
		int fd = pfds[2].revents ? accept4(EGRESS_LISTEN_FD, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
		if (fd >= 0) {
			running++;
			start_thread(proxy, &attributes, fd, ended[1]);
		} else if (pfds[2].revents && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			short_of = true;
		}
	}
}

int main(void)
{
	static struct proxy proxy = {
	        .request_ms = PROXY_REQUEST_MS, .connect_ms = PROXY_CONNECT_MS, .linger_ms = PROXY_LINGER_MS};
	int ended[2];
	prctl(PR_SET_NAME, "wisp-proxy");
	syscall(SYS_close_range, EGRESS_FD_END, UINT_MAX, 0);
	int r = take_rules(&proxy.rules);
	if (r < 0)
		return fail("cannot read the rules", -r);
	r = own_read(&proxy.rules);
	if (r < 0)
		return fail("cannot read the host's addresses", -r);
	if (pipe2(ended, O_CLOEXEC) < 0 || fcntl(EGRESS_LISTEN_FD, F_SETFL, O_NONBLOCK) < 0)
		return fail("cannot set up its descriptors", errno);
	/* The library reaps its child, which this process is, at once, or at the end of the sandbox. */
	pid_t pid = proxy.rules.detach ? fork() : 0;
	if (pid < 0)
		return fail("cannot start its process", errno);
	if (pid > 0)
		_exit(0);
	netlog_init(&proxy.log, EGRESS_LOG_FD, NETLOG_MAX);
	if (chdir("/") < 0) /* it keeps no directory busy */
		return fail("cannot enter /", errno);
	if (proxy_jail(&proxy.rules) < 0)
		return fail("cannot enter its jail", errno);
	say("ok\n");
	accept_clients(&proxy, ended);
	_exit(0); /* with all threads */
}
