/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a program. */
#ifndef WISP_AGENT_SPAWN_H
#define WISP_AGENT_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "agent/request.h"
#include "agent/user.h"

#define SPAWN_STACK_BYTES 16384u
#define SPAWN_PATH_BYTES 4096u

/* Why a program did not start. */
struct agent_failure {
	int error;     /* errno, 0: none */
	uint8_t kind;  /* enum proto_failure */
	uint8_t stage; /* enum proto_stage */
	char message[512];
};

/* What a child needs in memory that it shares with the agent: one for all, since the agent waits for each. */
struct agent_spawner {
	struct rlimit files; /* RLIMIT_NOFILE of programs that ask for none */
	_Alignas(16) uint8_t stack[SPAWN_STACK_BYTES];
	char path[SPAWN_PATH_BYTES]; /* the file that is tried */
};

/* The agent's ends; -1 where there is none. All close-on-exec and non-blocking, and the caller's. */
struct agent_spawned {
	pid_t pid;
	int input;     /* stdin pipe; with a tty the same number as output[0] */
	int output[2]; /* stdout and stderr pipes; with a tty the master and -1 */
};

/*
 * Starts request's program as user: a leader of a new session, so of a new process group as well. null_fd is /dev/null
 * open for reading. When it returns 0 the program runs (execve succeeded) and its exit is the caller's to reap;
 * otherwise -1, *failure has the reason and nothing is left behind.
 */
int agent_spawn(struct agent_spawner *spawner, const struct agent_request *request, const struct agent_user *user,
        int null_fd, struct agent_spawned *spawned, struct agent_failure *failure);

/* Fills *failure in, with a message of printf's form followed by the text of error where it is not 0. */
void agent_fail(struct agent_failure *failure, enum proto_failure kind, enum proto_stage stage, int error,
        const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
