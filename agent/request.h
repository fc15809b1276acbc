/* SPDX-License-Identifier: Apache-2.0 */
/* An EXEC frame, taken apart and checked, and the environment it asks for. */
#ifndef WISP_AGENT_REQUEST_H
#define WISP_AGENT_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/shared/proto.h"
#include "agent/user.h"

#define AGENT_DEFAULTS 5 /* variables that agent_request_environ() may add */

struct agent_request {
	struct proto_exec exec;
	struct proto_rlimit rlimits[PROTO_RLIMITS_MAX];
	char *cwd;
	const char *user;
	char **argv;       /* NULL-terminated; the one allocation, with the strings behind the pointers */
	char **envp;       /* NULL-terminated; agent_request_environ() completes it */
	size_t argv_bytes; /* of all arguments, which follow one another in memory, each with its NUL */
	char *defaults;    /* the entries that agent_request_environ() adds */
};

/*
 * Reads a payload. 0; -EPROTO when it breaks the rules of proto.h, with the reason in *why (a constant); -ENOMEM.
 * agent_request_free() is due only after 0.
 */
int agent_request_parse(struct agent_request *request, const uint8_t *payload, size_t length, const char **why);

/*
 * Makes envp one value a name, the last one given, and adds HOME, USER, LOGNAME, PATH and (with a tty) TERM where they
 * are not set. 0, -EINVAL when an entry is not NAME=value, or -ENOMEM.
 */
int agent_request_environ(struct agent_request *request, const struct agent_user *user);

/* The value of a variable in envp, or NULL. */
const char *agent_request_getenv(const struct agent_request *request, const char *name);

void agent_request_free(struct agent_request *request);

#endif
