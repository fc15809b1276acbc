/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session: one program, what it wrote, and the clients that take part.
 *
 * It lives in agent->starting until its program is known to run, in agent->running until its EXITED can be told, then
 * in agent->ended until it is evicted.
 *
 * Three things happen in any order, and EXITED waits for all: the process is reaped; each output stream ends, or what
 * it held at the exit was read and 100 ms went by; the writer, if it is slow, made room in the ring for that.
 */
#ifndef WISP_AGENT_SESSION_H
#define WISP_AGENT_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/bytes.h"
#include "agent/list.h"
#include "agent/outring.h"
#include "agent/poller.h"
#include "vmm/shared/proto.h"
#include "agent/request.h"
#include "agent/spawn.h"

#define SESSION_ENDED_MAX 64u                          /* ended sessions that are kept */
#define SESSION_ENDED_BYTES (4u * 1024 * 1024)         /* and the output they may hold together */
#define SESSION_START_NS (10u * 1000 * 1000 * 1000ull) /* for the program to be executed */
#define SESSION_GRACE_NS (100u * 1000 * 1000)          /* for an output stream that outlives the process */
#define SESSION_STDIN_MAX (2u * PROTO_WINDOW_INITIAL)  /* unread stdin: a writer's window, and its predecessor's */

struct agent;
struct agent_client;

struct session_stream {
	struct agent_session *session;
	struct poller_watch watch; /* the pipe's reading end; the master of a tty is stream 0's */
	bool readable;             /* since the last event, no read said that nothing is left */
	bool hung_up;              /* nobody holds the other end */
	uint32_t owed;             /* bytes still to be read of those that were there when the process ended */
	bool widened;              /* its pipe holds more than others */
};

struct agent_session {
	struct agent *agent;
	struct list node;
	uint64_t id;
	uint64_t started_ns; /* CLOCK_REALTIME */
	pid_t pid;
	struct agent_cgroup *cgroup; /* NULL: there are none here, or nothing is left in it */
	bool tty;

	/* While it is starting: */
	struct agent_spawn *spawn;
	struct poller_watch start; /* hangs up at the end of that */
	struct poller_timer start_timer;
	int start_error; /* errno for which it was given up, ETIMEDOUT: its time was over */

	struct outring ring;
	struct session_stream streams[2];
	struct poller_task pump; /* reads on when the ring has room again */

	struct list clients; /* struct agent_client.session_node */
	struct agent_client *writer;

	struct poller_watch input; /* the stdin pipe's writing end; of a tty the descriptor is stream 0's */
	struct bytes stdin_bytes;
	bool has_stdin;       /* it was started with one that can be written */
	bool stdin_watched;   /* for room */
	bool stdin_in_line;   /* the last byte was not the end of a line */
	bool stdin_eof;       /* close it once stdin_bytes are written */
	uint32_t stdin_error; /* errno that closed it, 0: none */

	struct poller_timer timeout;
	struct poller_timer grace;
	bool timed_out;
	bool reaped; /* status holds */
	bool exited; /* EXITED may be told; it belongs at position exit_position of the output */
	bool grace_over;
	bool evicted; /* not to be seen any more; only reads what still comes, for the log */
	int32_t code;
	uint32_t signal;
	uint64_t exit_position; /* of the output's end at that time */

	/* What the control connection did not get yet, and the place in agent->mirror_behind while it has no room: */
	uint64_t mirror_position; /* of the ring's output */
	uint64_t mirror_lost;     /* bytes that it will not get, */
	bool mirror_missed;       /* which, or that it missed an event, is to be told */
	bool mirror_start;        /* STARTED is to be told, before all else */
	bool mirror_exit;         /* EXITED, once the output before it is queued */
	struct list mirror_node;

	size_t argv_bytes;
	char argv[]; /* NUL-separated */
};

/*
 * Begins to start what spawn asks for, and takes spawn over. The outcome is told to the session's writer and to the log
 * (agent_client_started(), agent_client_failed()). NULL with *failure when that is known already.
 */
struct agent_session *agent_session_start(
        struct agent *agent, struct agent_spawn *spawn, uint64_t id, struct agent_failure *failure);

/* Ends everything that hangs on it, kills nothing. No client may be attached. */
void agent_session_free(struct agent_session *session);

/* The one that can be opened as id, or NULL. */
struct agent_session *agent_session_find(struct agent *agent, uint64_t id);
/* The first one of at least this id that is to be seen, or NULL. */
struct agent_session *agent_session_next(struct agent *agent, uint64_t id);

/* enum proto_session_flags, without those of a particular client. */
uint32_t agent_session_flags(const struct agent_session *session);

/* How it ended, once it has. */
struct proto_exited agent_session_exited(const struct agent_session *session);

/* The process has ended with this wait status. */
void agent_session_reaped(struct agent_session *session, int status);

/* A client was taken out of session->clients, and is not its writer any more. May free an evicted session. */
void agent_session_left(struct agent_session *session);

/* The writer took output: read on if that was what kept the program waiting. */
void agent_session_room(struct agent_session *session);

/* Can the program's stdin still be written? */
bool agent_session_stdin_open(const struct agent_session *session);

/* stdin, within the window. Writes what the program takes now and keeps the rest. -ENOMEM when it cannot. */
int agent_session_stdin(struct agent_session *session, const uint8_t *data, size_t length);
void agent_session_stdin_eof(struct agent_session *session);

/* SIGKILL to all that the session has started, its process group at least; also after its end. */
void agent_session_kill(struct agent_session *session);

/* To the process group; SIGKILL as agent_session_kill(). Does nothing once the process has ended: the group's number
 * may be another's by then. */
void agent_session_signal(struct agent_session *session, int signal);
/* Does nothing without a tty. */
void agent_session_resize(struct agent_session *session, uint16_t rows, uint16_t cols);

/* ---- Between session.c, which has the life of a session, and what it is made of ---- */

/* session.c: a session without a program. NULL without memory. */
struct agent_session *agent_session_new(struct agent *agent, const struct agent_request *request, uint64_t id);

/* session.c: has all that EXITED waits for happened? If so, the session has exited. */
void agent_session_check_exit(struct agent_session *session);

/* start.c */
void agent_start_init(struct agent_session *session);
/* Frees what is left of the start; kills a child that has not executed the program. */
void agent_start_free(struct agent_session *session);
/* The child has executed the program, or has ended. False when the session is gone, since its program did not start. */
bool agent_start_end(struct agent_session *session);

/* eviction.c: frees an evicted session that nothing needs any more. True when it did. */
bool agent_session_release(struct agent_session *session);
/* eviction.c: evicts the oldest ended sessions until the rest is within the bounds. */
void agent_session_evict(struct agent *agent);

/* output.c */
void agent_output_init(struct agent_session *session);
/* The program runs: its output may be read. 0 or -errno. */
int agent_output_begin(struct agent_session *session);
void agent_output_close(struct agent_session *session);
bool agent_output_open(const struct agent_session *session);
/* The process has ended: reads what it left, and learns how much of that is still to be read. */
void agent_output_reaped(struct agent_session *session);
/* Was that read, and is no more to be waited for? */
bool agent_output_complete(const struct agent_session *session);
/* Reads what there is and acts on it; the session may be gone afterwards. */
void agent_output_pump(struct agent_session *session);

/* stdin.c */
void agent_stdin_init(struct agent_session *session);
/* The program runs, and its writer was told: what was kept for it may be written. */
void agent_stdin_begin(struct agent_session *session);
/* Writes what is kept, as far as the program takes it. */
void agent_stdin_drain(struct agent_session *session);
void agent_stdin_close(struct agent_session *session);

#endif
