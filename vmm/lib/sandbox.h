/* SPDX-License-Identifier: Apache-2.0 */
/* What other files of the library need of a sandbox's handle. Everything but the monitor's part is constant. */
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

	/* The monitor. */
	pid_t child;   /* ours to reap, or 0 */
	int pidfd;     /* -1 until it is known */
	int status_fd; /* the creator's end of the status socket, or -1 */
	bool owner;    /* closing ends the sandbox */
	int64_t boot_deadline_ns;

	pthread_mutex_t lock; /* what follows */
	char line[4096];      /* of the status socket, not complete yet */
	size_t line_length;
	enum { SANDBOX_BOOTING, SANDBOX_READY, SANDBOX_ENDED } phase;
	bool was_ready;
	bool setup_failed; /* the end was an "error" line, or none */
	enum wisp_end end;
	char *end_text;
};

#endif
