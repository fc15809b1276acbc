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

/*
 * A program that is being started: the memory that the child shares with the agent until it has executed the program,
 * or has ended. It must stay where it is until then.
 */
struct agent_spawn {
	struct agent_request request;
	pid_t pid; /* 0: no child uses this */

	/* Where the child begins: */
	struct rlimit files;            /* RLIMIT_NOFILE of programs that ask for none */
	int input, output, error, done; /* what become 0, 1, 2 and 3; `done` is the other end of `status` below */
	const char *path_variable;

	/* What it answers: */
	int failed;         /* errno, 0: the program runs, or something killed the child before */
	uint8_t stage;      /* enum proto_stage */
	bool restricting;   /* at PROTO_STAGE_USER: that failed, and not the change of the user */
	uint32_t rlimit;    /* index of the one that is set */
	uint64_t limits[2]; /* of that */

	struct agent_user user;
	char path[SPAWN_PATH_BYTES]; /* the file that is tried */
	_Alignas(16) uint8_t stack[SPAWN_STACK_BYTES];
};

/* The agent's ends; -1 where there is none. All close-on-exec and non-blocking, and the caller's. */
struct agent_spawned {
	int input;     /* stdin pipe; with a tty the same number as output[0] */
	int output[2]; /* stdout and stderr pipes; with a tty the master and -1 */
	int status;    /* hangs up once the child needs its struct agent_spawn no more */
};

/* All empty; takes *spare if there is one. NULL without memory. */
struct agent_spawn *agent_spawn_new(struct agent_spawn **spare);

/*
 * Frees it, with its request, or keeps its memory in *spare: malloc() would map it anew for each program, and each page
 * of it would fault. Kills a child that may still use it, and waits for that.
 */
void agent_spawn_free(struct agent_spawn *spawn, struct agent_spawn **spare);

/*
 * Creates the child, which becomes the leader of a new session (and process group) and executes spawn's request as
 * spawn's user. null_fd is /dev/null open for reading. cgroup_fd is the cgroup that the child is created in, -1: the
 * agent's. Does not wait for the child: 0, and agent_spawn_result() is due when `status` hangs up or the child was
 * reaped; or -1, *failure has the reason and nothing is left behind.
 */
int agent_spawn(struct agent_spawn *spawn, int null_fd, int cgroup_fd, struct agent_spawned *spawned,
        struct agent_failure *failure);

/* 0 when the program runs (or was killed before it could), else -1 with *failure. Its exit is the caller's to reap. */
int agent_spawn_result(struct agent_spawn *spawn, struct agent_failure *failure);

/* Fills *failure in, with a message of printf's form followed by the text of error where it is not 0. */
void agent_fail(struct agent_failure *failure, enum proto_failure kind, enum proto_stage stage, int error,
        const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
