/* SPDX-License-Identifier: Apache-2.0 */
/* The agent itself: what its sessions and connections share, the listener, signals. */
#ifndef WISP_AGENT_SERVE_H
#define WISP_AGENT_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/cgroup.h"
#include "agent/egress.h"
#include "agent/forward.h"
#include "agent/freeze.h"
#include "agent/list.h"
#include "agent/poller.h"
#include "agent/spawn.h"
#include "vmm/shared/proto.h"

struct agent;
struct agent_client;

enum agent_power {
	AGENT_POWER_OFF,
	AGENT_POWER_REBOOT,
};

/* What differs between PID 1 of a guest and a test. Any may be NULL. */
struct agent_hooks {
	/* The guest is to be stopped, within grace_ms (0: not said). May come again while that is under way. */
	void (*power)(struct agent *agent, enum agent_power wanted, uint32_t grace_ms);
	/* No child is left. */
	void (*childless)(struct agent *agent);
	/* A host's clock differs by more than the slack below, or the machine goes on after a freeze. */
	void (*step_clock)(struct agent *agent, uint64_t realtime_ns);
	/*
	 * Frozen, and the control connection was lost: a new one, which the agent takes over. -errno: to be tried
	 * again. NULL: there is none.
	 */
	int (*reconnect)(struct agent *agent);
	/*
	 * A connection to a vsock port of the host, which does not block and may be under way, or -errno. NULL: none
	 * can be made.
	 */
	int (*dial)(struct agent *agent, uint32_t port);
	/*
	 * The machine is another one from now on (struct proto_thaw). 0, or -errno when it would have random numbers
	 * in common with others.
	 */
	int (*renew)(struct agent *agent, const struct proto_thaw *thaw);
	/* One line, without its newline, about something that was not expected. */
	void (*log)(struct agent *agent, const char *line);
};

#define AGENT_CLOCK_SLACK_NS (500u * 1000 * 1000)   /* of a client, who may have sent its time long ago */
#define AGENT_CLOCK_SET_SLACK_NS (5u * 1000 * 1000) /* of the monitor, which says it when it is set */
#define AGENT_READ_BYTES (128u * 1024)              /* the most of one read */

struct agent {
	struct poller poller;
	const struct agent_hooks *hooks;
	void *owner; /* for the hooks */

	struct poller_watch listener;
	struct poller_timer listen_again;
	struct poller_watch signals;
	int null_fd; /* /dev/null, stdin of most programs */

	struct list clients; /* served */
	struct list closing; /* answered, waiting for the peer to close */
	struct list idle;    /* kept, without a request, in the order they came to rest */
	unsigned int client_count;
	unsigned int closing_count;
	unsigned int idle_count;
	uint64_t rested_ns; /* when one last came to rest */
	struct agent_client *control;
	uint64_t patience_ns; /* CLIENT_PATIENCE_NS, less in tests */
	uint64_t start_ns;    /* SESSION_START_NS, less in tests */

	struct agent_freeze freeze;
	bool stopping; /* the guest is: no more programs */

	struct list starting; /* sessions whose program is not known to run yet: nobody else sees these */
	struct list running;
	struct list ended;    /* in the order they ended */
	struct list orphaned; /* evicted sessions whose output something still holds */
	unsigned int ended_count;
	uint64_t next_session;

	struct list mirror_behind; /* sessions that wait for room on the control connection */
	struct poller_timer mirror_timer;

	struct agent_forwards forwards;
	struct agent_egress egress;
	struct agent_cgroups cgroups;
	struct agent_spawn *spawn_spare;      /* memory for the next program, NULL: none */
	struct rlimit files;                  /* RLIMIT_NOFILE of programs that ask for none */
	uint8_t scratch[FORWARD_CHUNK_LARGE]; /* what is read and dealt with at once */
};

/*
 * Prepares *agent (large: not for the stack) and the process: blocks the signals it reads, makes sure that descriptors
 * 0 to 2 are open and that no signal is ignored. 0 or -errno.
 */
int agent_init(struct agent *agent, const struct agent_hooks *hooks, void *owner);
void agent_destroy(struct agent *agent);

/* Takes these descriptors over. The listener's may block. 0 or -errno. */
int agent_listen(struct agent *agent, int fd);
int agent_serve_connection(struct agent *agent, int fd);
int agent_serve_control(struct agent *agent, int fd);

/* Until agent->poller.stop. 0 or -errno. */
int agent_run(struct agent *agent);

uint64_t agent_realtime(void);

void agent_log(struct agent *agent, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
