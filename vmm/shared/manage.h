/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to a running monitor, over the Unix stream socket SANDBOX_FILES_MONITOR in the sandbox's directory. Library
 * and monitor may be of different builds here, so every message has a version.
 *
 * A connection carries one request at a time: a struct manage_request, a struct manage_reply. After a FORK that
 * succeeded, the connection is the clone's: the library sends the clone's description (description.h) on it, and the
 * clone reports its state there, as a monitor does that was started.
 */
#ifndef WISP_MANAGE_H
#define WISP_MANAGE_H

#include <stdint.h>

#include "vmm/shared/snapshot.h"

#define MANAGE_MAGIC 0x4d505357u /* "WSPM" */
#define MANAGE_VERSION 1u

/* How long the guest may take to freeze its sessions, in milliseconds. */
#define MANAGE_FREEZE_MS 10000u
/* The same for thawing them. Requests wait until then. */
#define MANAGE_THAW_MS 10000u

enum manage_op {
	/*
	 * Freezes the guest's sessions, then stops its vCPUs. The machine stays paused until RESUME. -EALREADY if it is
	 * paused.
	 *
	 * With MANAGE_HOLD, the machine stands still until this connection ends or resumes it, whether it is paused or
	 * not, and whoever else pauses, resumes or holds it. Only the end of the sandbox breaks that.
	 */
	MANAGE_PAUSE = 1,
	/*
	 * Ends the hold of this connection if there is one, else the pause; -EALREADY if there is neither. The machine
	 * goes on when nobody holds it any more.
	 */
	MANAGE_RESUME = 2,
	/*
	 * Writes the monitor's parts of a snapshot into the file whose descriptor comes with the request. A machine
	 * that runs is paused for it.
	 */
	MANAGE_SNAPSHOT = 3,
	/* Makes a clone of the machine, in a process of its own. A machine that runs is paused for it. */
	MANAGE_FORK = 4,
	MANAGE_REFRESH_DISKS = 5, /* tells the guest of disks whose size has changed; answered when it was told */
	/*
	 * Forwards the connections of the listening socket whose descriptor comes with the request to the guest's TCP
	 * port `value`, until the sandbox ends.
	 */
	MANAGE_FORWARD = 6,
	MANAGE_UNFORWARD = 7, /* closes the listening socket whose id is `value`; its connections go on. -ENOENT */
	/* Writes a struct manage_port for each of them to the file whose descriptor comes with the request. */
	MANAGE_FORWARDS = 8,
	/*
	 * Asks for the monitor's counts. Without an error, a struct stats (stats.h) follows the reply. It waits for no
	 * other request, and a machine that runs goes on meanwhile.
	 */
	MANAGE_STATS = 9,
};

enum manage_flags {
	MANAGE_HOLD = 1 << 0,
};

struct manage_request {
	uint32_t magic;
	uint16_t version;
	uint16_t op; /* enum manage_op */
	uint32_t flags;
	uint32_t value; /* 0 where the operation has none */
};

#define MANAGE_PORTS_MAX 64u

struct manage_port {
	uint32_t id;
	uint16_t to;           /* the guest's port */
	uint16_t address_size; /* of what getsockname(2) returns for the listening socket */
	uint8_t address[128];
};

struct manage_reply {
	uint32_t magic;
	uint16_t version;
	uint16_t zero;
	int32_t error;                 /* 0 or -errno; `text` then says what failed */
	uint32_t paused_us;            /* how long the guest was paused for a snapshot or fork */
	struct snapshot_layout layout; /* of a snapshot */
	char text[256];                /* with its NUL */
};

#endif
