/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the programs of a sandbox, wisp-vmm, wisp-fs, wisp-proxy and passt, as child processes. */
#ifndef WISP_LIB_LAUNCH_H
#define WISP_LIB_LAUNCH_H

#include <signal.h>
#include <sys/types.h>

#include "vmm/lib/lib.h"
#include "vmm/shared/description.h"

/*
 * Starts `helper` with what it has to know. Its standard error is *console_fd, or the sandbox's vmm.log if that is
 * NULL.
 * All descriptors stay the caller's. *pid is the direct child's; *status_fd is the caller's end of its socket. The
 * child has default signal dispositions and a session of its own, so a terminal's ^C does not reach it. 0 or -errno
 * with `error`.
 */
int launch_start(const char *helper, struct description *description, const struct description_fds *fds,
        const int *console_fd, pid_t *pid, int *status_fd, struct wisp_error *error);

struct launch_fd {
	int ours; /* higher than all of theirs */
	int theirs;
};

/*
 * Starts a program with these arguments, its own name among them, and no environment, in a session of its own, with
 * these descriptors, in the order of theirs. Those of the standard streams that are not among them are /dev/null; it
 * has no others. It has default signal dispositions, and `blocked` signals; NULL: none. 0 or an errno.
 */
int launch_spawn(const char *program, const char *const *argv, const struct launch_fd *fds, size_t count,
        const sigset_t *blocked, pid_t *pid);

/* What a program has said of its start: its end, if that is long. */
struct launch_words {
	char text[2048];
	size_t length;
};

/* How long a program may take to start. */
#define LAUNCH_LIMIT_MS 10000

/*
 * Reads from `fd` what `program`, with the process id `pid`, says of its start, until all that could write there have
 * closed it. `words` is then a string without newlines at its end. 0; or -errno with `error`, if that takes
 * longer than `limit_ms`, or `cancel`, which may be NULL, ends the wait: the process is then killed. It is the
 * caller's to reap.
 */
int launch_hear(int fd, const char *program, pid_t pid, const struct lib_cancel *cancel, int64_t limit_ms,
        struct launch_words *words, struct wisp_error *error);

/* The last line of what it said, or `otherwise`. Valid as long as `words`. */
const char *launch_last_line(const struct launch_words *words, const char *otherwise);

/*
 * For a program that leaves a process behind that serves, after launch_hear: reaps `pid`, and returns whether there is
 * such a process. The status may be lost, in a caller that reaps all children; but what serves has the other end of
 * `socket`, and nobody else has.
 */
bool launch_serves(pid_t pid, int socket);

/* Reaps a child. Another may have reaped it already. */
void launch_reap(pid_t pid);

#endif
