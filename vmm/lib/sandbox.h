/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox's handle. Everything but the monitor's part is constant. */
#ifndef WISP_LIB_SANDBOX_H
#define WISP_LIB_SANDBOX_H

#include <pthread.h>
#include <sys/types.h>

#include "vmm/lib/config.h"
#include "vmm/lib/state.h"

struct wisp_sandbox {
	char *name;
	char *dir;
	int root_fd;
	int dir_fd;
	struct config config;
	struct lib_cancel cancel;
	struct conn_pool *pool; /* the connection to the agent that is kept between requests */

	/* The monitor. */
	pid_t child;           /* to be reaped, or 0 */
	pid_t proxy;           /* likewise, after the monitor's end */
	int pidfd;             /* -1 until it is known */
	int status_fd;         /* the creator's end of the status socket, or -1 */
	struct ports *ports;   /* which the monitor gets when it is ready, or NULL */
	struct egress *egress; /* whose proxy starts then, or NULL */
	bool owner;            /* closing ends the sandbox */
	bool warm;             /* started from the snapshot of its configuration */
	int64_t boot_deadline_ns;

	pthread_mutex_t lock; /* guards what follows */
	char line[4096];      /* an incomplete line of the status socket */
	size_t line_length;
	enum { SANDBOX_BOOTING, SANDBOX_READY, SANDBOX_ENDED } phase;
	bool was_ready;
	bool setup_failed; /* the last line was "error", or there was none */
	enum wisp_end end;
	char *end_text;
	int sockets_fd;           /* the file SANDBOX_FILES_SOCKETS, opened before the end, or -1 */
	_Atomic int64_t pause_us; /* of the last snapshot or fork */
};

/* A handle of nothing yet, which takes over root_fd, even if it fails; NULL if out of memory. */
struct wisp_sandbox *sandbox_new(int root_fd, const struct lib_cancel *cancel);
/* Ends a sandbox that its creator does not want, whether it is detached or not, and releases the handle. */
void sandbox_destroy(struct wisp_sandbox *sandbox);

/* Signals the monitor; 0 only asks whether it can be. With SIGTERM goes the grace, which the monitor passes on. */
int sandbox_signal(struct wisp_sandbox *sandbox, int signal, int64_t grace_ms, struct wisp_error *error);
/* Kills the monitor, waits until it has died, and tidies up. */
int sandbox_kill(struct wisp_sandbox *sandbox, const struct lib_cancel *cancel, struct wisp_error *error);

#endif
