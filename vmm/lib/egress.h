/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox's way out by name: the rules that its options give, and wisp-proxy, which obeys them. The library listens
 * in the sandbox's directory before its monitor starts, so that no connection of the guest comes too early, and starts
 * the proxy as soon as the monitor is ready.
 */
#ifndef WISP_LIB_EGRESS_H
#define WISP_LIB_EGRESS_H

#include "vmm/lib/lib.h"

struct wisp_sandbox;

/* Of a sandbox that is being made. */
struct egress {
	char *program;
	struct lib_string rules; /* for EGRESS_RULES_FD */
	char **secrets;          /* "NAME@HOST" or "NAME@HOST:PORT", for the config; ended by NULL */
	int listen_fd;           /* -1: not yet */
	bool detach;
};

/*
 * Checks the options' rules and secrets, and stores what becomes of them in *egress; NULL if there are none. `program`
 * is wisp-proxy's path, and copied.
 */
int egress_prepare(const struct wisp_create_options *options, const char *program, struct egress **egress,
        struct wisp_error *error);
/* The sandbox has its directory, and no monitor yet. Takes over *egress on success. */
int egress_listen(struct wisp_sandbox *sandbox, struct egress **egress, struct wisp_error *error);
/* The sandbox is ready: starts the proxy, if there is to be one. If that fails, the sandbox is killed. */
int egress_begin(struct wisp_sandbox *sandbox, struct wisp_error *error);
/* Takes NULL. */
void egress_free(struct egress *egress);

/*
 * Starts the proxy for the monitor that `monitor_fd` is a pidfd of; its log is in the directory. *pid is to be reaped
 * after the monitor's end; 0 if the sandbox is detached.
 */
int egress_start(const struct egress *egress, int dir_fd, int monitor_fd, pid_t *pid, struct wisp_error *error);

/* Adds the variables of a session to `out`, each with its NUL, and returns their number. */
uint32_t egress_add_env(const char *const *secrets, struct lib_string *out);

#endif
