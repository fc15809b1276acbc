/* SPDX-License-Identifier: Apache-2.0 */
/* The two directions of wisp cp. */
#ifndef WISP_CLI_CP_H
#define WISP_CLI_CP_H

#include "vmm/cli/guest.h"
#include "vmm/cli/progress.h"

struct copy {
	struct wisp_sandbox *sandbox;
	const char *user;
	bool quiet;
	struct progress progress;
};

/* `path` of the guest, made absolute (against /), without a slash at its end; to be freed. */
char *cp_guest_path(const char *path);
/* The directory of a path, to be freed, and its last component, within `path`. */
char *cp_split(const char *path, const char **last);

/* Both: 0, or an exit code after a message. `into`: the destination is a directory that exists. */
int cp_send(struct copy *copy, const char *source, const char *guest_path, bool into);
int cp_receive(struct copy *copy, const char *guest_path, const char *destination, bool into);

#endif
