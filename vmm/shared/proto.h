/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host-guest wire format, shared by both sides: the layout here, the rules for every frame in proto.c.
 * docs/internals/protocol.md describes the conversation.
 *
 * Every integer is little-endian. A connection carries frames: a struct proto_frame, then `length` bytes of payload.
 * Structures have no implicit padding and no alignment requirement: copy them out of a buffer, never cast into it.
 * Both sides treat what they receive as hostile: a frame of unknown type, of a length that its type does not allow or
 * with a non-zero `zero` field ends that connection, and only that one.
 */
#ifndef WISP_PROTO_H
#define WISP_PROTO_H

#include <stddef.h>
#include <stdint.h>

#define PROTO_MAGIC 0x50534957u /* "WISP" */
#define PROTO_VERSION 7u

#define PROTO_PORT_AGENT 1024u   /* guest port where the agent listens */
#define PROTO_PORT_CONTROL 1024u /* host port that the agent connects to as soon as it serves, and after a restore */

/*
 * A connection to the agent from this host port or a higher one carries no frames: its bytes are those of a connection
 * to the guest's TCP port which the lower 16 bits name, not 0.
 */
#define PROTO_PORT_FORWARD (1u << 31)

#define PROTO_DATA_MAX 65536u             /* payload of any frame but EXEC and EVENT */
#define PROTO_EXEC_MAX (2u * 1024 * 1024) /* payload of an EXEC frame; Linux's own default ARG_MAX */
#define PROTO_STRING_MAX 4096u            /* cwd, user, message: bytes with the NUL */
#define PROTO_PING_MAX 64u                /* payload of PING and PONG */
#define PROTO_WINDOW_INITIAL 65536u       /* bytes of stdin a client may send before the first STDIN_WINDOW */
#define PROTO_CLIENTS_MAX 128u            /* connections the agent serves at once, the control connection apart */

struct proto_frame {
	uint32_t length; /* payload bytes that follow */
	uint8_t type;    /* enum proto_type */
	uint8_t zero[3];
};

enum proto_type {
	/* both ways */
	PROTO_HELLO = 1, /* struct proto_hello; the first frame of each side, sent without waiting for the other's */
	PROTO_PING = 2,  /* 0..64 bytes, answered by PONG with the same bytes */
	PROTO_PONG = 3,

	/* client to agent: a request comes after HELLO, or after the DONE of another (PING may come at any time) */
	PROTO_EXEC = 16, /* struct proto_exec and what follows it */
	PROTO_OPEN = 17, /* struct proto_open: take part in an existing session */
	PROTO_LIST = 18, /* empty: answered by a SESSION each, then DONE */
	PROTO_POWEROFF =
	        19,      /* struct proto_poweroff: TERM, sync, unmount, power off; answered by DONE before it begins */
	PROTO_KILL = 20, /* struct proto_kill: SIGKILL to all that a session has started, even if it has ended; DONE */
	PROTO_KEEP = 21, /* empty, before the first request: the agent takes another request after each DONE */

	/* the monitor to the agent, on the control connection */
	PROTO_FREEZE = 24, /* empty: freeze every session; answered by FROZEN, after all events that came before */
	PROTO_THAW = 25,   /* struct proto_thaw: answered by THAWED when the sessions run again */
	PROTO_CLOCK = 26,  /* struct proto_clock: the clock may be wrong, after a sleep of the host say. No answer */

	/* client to agent, while in a session */
	PROTO_STDIN = 32,     /* 1..PROTO_DATA_MAX bytes, within the window */
	PROTO_STDIN_EOF = 33, /* empty: pipe: close; tty: send VEOF */
	PROTO_SIGNAL = 34,    /* struct proto_signal: to the process group; SIGKILL as KILL does */
	PROTO_RESIZE = 35,    /* struct proto_winsize */

	/* agent to client */
	PROTO_STARTED = 64, /* struct proto_started: first event of a session */
	PROTO_STDOUT = 65,  /* 1..PROTO_DATA_MAX bytes */
	PROTO_STDERR = 66,  /* the same; never with a tty */
	PROTO_DROPPED = 67, /* struct proto_dropped: output lost to this client between the previous and next data */
	PROTO_STDIN_WINDOW = 68, /* struct proto_window: that many more bytes of stdin may be sent */
	PROTO_STDIN_ERROR = 69,  /* struct proto_stdin_error: stdin is closed, the session goes on */
	PROTO_EXITED = 70,       /* struct proto_exited */
	PROTO_FAILED = 71,       /* struct proto_failed + text: the program never started */
	PROTO_DONE = 72,         /* empty: everything was delivered; the agent closes, unless KEEP came */
	PROTO_SESSION = 73,      /* struct proto_session + argv: an answer to LIST */
	PROTO_ERROR = 74, /* struct proto_error + text: the request or the connection is refused; the agent closes */

	/* agent to host, on the control connection only */
	PROTO_EVENT = 96,  /* struct proto_event + the payload of the frame it repeats, for the host's exec.log */
	PROTO_FROZEN = 97, /* struct proto_frozen */
	PROTO_THAWED = 98, /* empty */
};

struct proto_hello {
	uint32_t magic;
	uint16_t version;
	uint16_t zero;
	uint64_t realtime_ns; /* sender's CLOCK_REALTIME; 0: unknown. The agent steps its clock to a host's */
};

enum proto_exec_flags {
	PROTO_EXEC_TTY = 1u << 0,
	PROTO_EXEC_STDIN = 1u << 1,    /* stdin is a pipe fed by STDIN frames; else /dev/null (implied by TTY) */
	PROTO_EXEC_COLLECT = 1u << 2,  /* nobody looks before the end: STARTED may come some ms late, with more */
	PROTO_EXEC_MAKE_CWD = 1u << 3, /* create cwd if it is missing, as root */
	/* No capabilities, no new privileges, a seccomp filter; without `user`, a user of the session's own. */
	PROTO_EXEC_RESTRICTED = 1u << 4,
	PROTO_EXEC_EGRESS = 1u << 5, /* from now on, the guest's loopback leads to the host's proxy: egress.h */
};
#define PROTO_EXEC_FLAGS                                                                                        \
	(PROTO_EXEC_TTY | PROTO_EXEC_STDIN | PROTO_EXEC_COLLECT | PROTO_EXEC_MAKE_CWD | PROTO_EXEC_RESTRICTED | \
	        PROTO_EXEC_EGRESS)

#define PROTO_RLIMITS_MAX 16u

/*
 * After it: rlimit_count struct proto_rlimit, then NUL-terminated strings: cwd, user (either may be empty: the
 * default), argc arguments (argv[0] is looked up in PATH), envc "NAME=value" entries (a later one wins). Nothing may
 * follow.
 */
struct proto_exec {
	uint32_t flags;
	uint32_t argc; /* at least 1 */
	uint32_t envc;
	uint32_t rlimit_count; /* at most PROTO_RLIMITS_MAX */
	uint64_t timeout_ns;   /* 0: none */
	uint16_t rows;         /* with TTY; 0: 24 */
	uint16_t cols;         /* with TTY; 0: 80 */
	uint32_t zero;
};

struct proto_rlimit {
	uint32_t resource; /* Linux's RLIMIT_* number */
	uint32_t zero;
	uint64_t soft; /* UINT64_MAX: unlimited */
	uint64_t hard;
};

enum proto_open_flags {
	PROTO_OPEN_REPLAY = 1u << 0, /* begin with the retained output, else with what comes from now on */
	PROTO_OPEN_WRITE = 1u << 1,  /* take stdin and back-pressure: refused when another client holds them */
};

struct proto_open {
	uint64_t session;
	uint32_t flags;
	uint32_t zero;
};

struct proto_poweroff {
	uint32_t grace_ms; /* from now until the host ends the machine; 0: it did not say */
};

struct proto_frozen {
	uint32_t error; /* errno: then nothing is frozen */
};

enum proto_thaw_flags {
	PROTO_THAW_CLONE = 1u << 0, /* the machine was restored: it is another one from now on */
};

/*
 * What the agent does before the sessions run again. It always steps the clock. All else is for a clone: it mixes
 * `seed` into the kernel's random generator and reseeds it, sets the host name, and gives the machine its new ids.
 */
struct proto_thaw {
	uint32_t flags;
	uint32_t zero;
	uint64_t realtime_ns;
	uint8_t seed[64];
	uint8_t generation[16]; /* random; also the new machine id */
	char hostname[64];      /* NUL-terminated; "": it stays */
};

struct proto_clock {
	uint64_t realtime_ns; /* the host's CLOCK_REALTIME, to which the agent steps its own */
};

struct proto_kill {
	uint64_t session;
};

struct proto_signal {
	uint32_t signal; /* 1..64 */
};

struct proto_winsize {
	uint16_t rows;
	uint16_t cols;
};

enum proto_session_flags {
	PROTO_SESSION_TTY = 1u << 0,
	PROTO_SESSION_STDIN = 1u << 1,   /* its stdin is a pipe that is still open */
	PROTO_SESSION_WRITER = 1u << 2,  /* STARTED: this client is the writer. SESSION: there is one */
	PROTO_SESSION_EXITED = 1u << 3,  /* code and signal hold */
	PROTO_SESSION_TIMEOUT = 1u << 4, /* it was killed by its timeout */
};

struct proto_started {
	uint64_t session; /* counts from 1, never reused while the guest runs */
	uint32_t pid;     /* in the guest */
	uint32_t flags;   /* enum proto_session_flags */
	uint64_t replay;  /* the first so many bytes of output, those told by DROPPED included, are of the past */
};

struct proto_dropped {
	uint64_t bytes;
};

struct proto_window {
	uint32_t bytes;
};

struct proto_stdin_error {
	uint32_t error; /* errno */
};

struct proto_exited {
	int32_t code;    /* -1 when killed by a signal */
	uint32_t signal; /* 0 when it exited */
	uint32_t flags;  /* PROTO_SESSION_TIMEOUT or 0 */
};

enum proto_failure {
	PROTO_FAILURE_OTHER = 0,
	PROTO_FAILURE_NOT_FOUND = 1,
	PROTO_FAILURE_PERMISSION_DENIED = 2,
	PROTO_FAILURE_NOT_EXECUTABLE = 3,
	PROTO_FAILURE_BAD_CWD = 4,
	PROTO_FAILURE_BAD_ARGS = 5,
	PROTO_FAILURE_RESOURCE_LIMIT = 6,
	PROTO_FAILURE_USER_SETUP_FAILED = 7,
	PROTO_FAILURE_OUT_OF_MEMORY = 8,
	PROTO_FAILURE_PTY_SETUP_FAILED = 9,
};

enum proto_stage {
	PROTO_STAGE_REQUEST = 0, /* reading and checking the request */
	PROTO_STAGE_PIPE = 1,    /* pipes, /dev/null */
	PROTO_STAGE_PTY = 2,
	PROTO_STAGE_FORK = 3,
	PROTO_STAGE_RLIMIT = 4,
	PROTO_STAGE_USER = 5,
	PROTO_STAGE_CWD = 6,
	PROTO_STAGE_EXEC = 7,
};

struct proto_failed {     /* then a message, PROTO_STRING_MAX at most, no NUL */
	uint64_t session; /* the id that it would have had, and that the host's log has */
	uint32_t error;   /* errno, 0 when there is none */
	uint8_t kind;     /* enum proto_failure */
	uint8_t stage;    /* enum proto_stage */
	uint8_t zero[2];
};

struct proto_session { /* then argv, NUL-separated and cut to fit PROTO_STRING_MAX */
	uint64_t session;
	uint64_t started_ns; /* CLOCK_REALTIME of the guest */
	uint32_t pid;
	uint32_t flags; /* enum proto_session_flags */
	int32_t code;
	uint32_t signal;
	uint32_t clients; /* connections in it now */
	uint32_t zero;
};

enum proto_error_code {
	PROTO_ERROR_PROTOCOL = 1, /* a frame broke the rules of this file */
	PROTO_ERROR_VERSION = 2,
	PROTO_ERROR_BUSY = 3,       /* PROTO_CLIENTS_MAX reached */
	PROTO_ERROR_NO_SESSION = 4, /* OPEN, KILL: there is none of that id (any more) */
	PROTO_ERROR_WRITER = 5,     /* OPEN: another client writes */
};

struct proto_error { /* then a message, PROTO_STRING_MAX at most, no NUL */
	uint32_t code;
};

struct proto_event { /* then the payload of a STARTED, STDOUT, STDERR, EXITED, FAILED or DROPPED frame */
	uint64_t session;
	uint64_t realtime_ns;
	uint8_t type; /* enum proto_type */
	uint8_t zero[7];
};
#define PROTO_EVENT_MAX ((uint32_t)sizeof(struct proto_event) + PROTO_DATA_MAX)

/* Whose frame it is: each type may come from some of these only. */
enum proto_sender {
	PROTO_CLIENT = 1u << 0,
	PROTO_HOST = 1u << 1,          /* the monitor, on the control connection */
	PROTO_AGENT = 1u << 2,         /* to a client */
	PROTO_AGENT_CONTROL = 1u << 3, /* on the control connection */
};

/* The header of a frame with `length` bytes of payload, as it is sent. */
struct proto_frame proto_frame(enum proto_type type, size_t length);

/*
 * Reads the header at `from` (sizeof(struct proto_frame) bytes). NULL, or what is wrong with it: a text that follows
 * "a frame: ". It is known before the payload has come, so nobody need wait for that.
 */
const char *proto_check_frame(const void *from, enum proto_sender sender, struct proto_frame *frame);

_Static_assert(sizeof(struct proto_frame) == 8, "wire format");
_Static_assert(sizeof(struct proto_hello) == 16, "wire format");
_Static_assert(sizeof(struct proto_exec) == 32, "wire format");
_Static_assert(sizeof(struct proto_rlimit) == 24, "wire format");
_Static_assert(sizeof(struct proto_open) == 16, "wire format");
_Static_assert(sizeof(struct proto_started) == 24, "wire format");
_Static_assert(sizeof(struct proto_exited) == 12, "wire format");
_Static_assert(sizeof(struct proto_failed) == 16, "wire format");
_Static_assert(sizeof(struct proto_session) == 40, "wire format");
_Static_assert(sizeof(struct proto_event) == 24, "wire format");
_Static_assert(sizeof(struct proto_thaw) == 160, "wire format");

#endif
