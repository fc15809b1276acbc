/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libwisp: run commands in microVMs.
 *
 * A sandbox is a virtual machine with its own kernel. Its monitor is a process of its own (wisp-vmm), so neither a
 * crash of the monitor nor anything a guest does reaches the program that uses this library. A sandbox runs any number
 * of sessions: programs, each with its own standard input, output and exit status.
 *
 *	struct wisp_create_options create = {.size = sizeof(create), .state_root = "/run/wisp"};
 *	struct wisp_sandbox *sandbox;
 *	struct wisp_output *output;
 *	struct wisp_error error;
 *	const char *argv[] = {"uname", "-a", NULL};
 *
 *	if (wisp_create_sandbox(&create, &sandbox, &error) < 0)
 *		errx(1, "%s", error.message);
 *	if (wisp_exec(sandbox, argv, NULL, &output, &error) < 0)
 *		errx(1, "%s", error.message);
 *	fwrite(output->stdout_data, 1, output->stdout_length, stdout);
 *	wisp_free_output(output);
 *	wisp_close_sandbox(sandbox);
 *
 * Conventions
 *
 * Errors. A call that can fail returns 0, or a count where it says so, or a negative errno, and fills the struct
 * wisp_error that its last parameter points to, if that is not NULL. On success that object is left as it is.
 *
 * Options. Every structure of options begins with `size`: set it to sizeof the structure and leave what you do not use
 * zero; zero is each field's default. A program compiled against another version of this header works: fields that the
 * library does not know are refused unless they are zero. A NULL pointer to options means all defaults. Options,
 * strings and arrays are copied: they need to live for the call only.
 *
 * Objects. What a call hands out through a pointer to a pointer belongs to the caller, who releases it with the call
 * that its description names; releasing NULL does nothing. What a call returns as a pointer to const belongs to the
 * library and lives as long as its description says.
 *
 * Threads. Calls on different objects may run in different threads. One object belongs to one thread at a time, except
 * where it says otherwise: a struct wisp_sandbox may be used by several threads at once (except to close it), and a
 * session's stdin writer and control handles may be used in other threads than the session.
 *
 * Time. Durations are milliseconds in a signed 64-bit integer. For the `timeout_ms` of a call that waits, 0 does not
 * wait and a negative number waits for ever. Every wait has a descriptor to poll(2) instead.
 *
 * Manners. The library never exits, prints, reads the environment, changes signal dispositions or the working
 * directory, or keeps a thread; a broken connection is an error and never SIGPIPE. All its descriptors are
 * close-on-exec. Its only child processes are wisp-vmm and mksquashfs, which it reaps by their pid; a program that
 * ignores SIGCHLD or reaps all children itself does no harm.
 *
 * Strings of and for the guest are bytes; nothing is assumed about their encoding unless a call says UTF-8.
 */
#ifndef WISP_H
#define WISP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WISP_API __attribute__((visibility("default")))

struct wisp_sandbox; /* a running sandbox */
struct wisp_session; /* this program's connection to one session */
struct wisp_stdin;   /* writes a session's standard input */
struct wisp_control; /* signals and resizes a session from any thread */
struct wisp_logs;    /* reads a sandbox's log */

/* The version of this header. */
#define WISP_VERSION_MAJOR 0
#define WISP_VERSION_MINOR 1
#define WISP_VERSION_PATCH 0
/* The version as one number, for comparisons: 1.2.3 is 1002003. */
#define WISP_VERSION_NUMBER (WISP_VERSION_MAJOR * 1000000 + WISP_VERSION_MINOR * 1000 + WISP_VERSION_PATCH)

/* The library's version, such as "0.1.0". */
WISP_API const char *wisp_get_version(void);

/* ---- Errors ------------------------------------------------------------------------------------------------------ */

enum wisp_status {
	WISP_OK = 0,
	WISP_ERR_INVALID = 1,        /* an argument or option is wrong; nothing was started */
	WISP_ERR_SYSTEM = 2,         /* a system call on the host failed */
	WISP_ERR_NO_MEMORY = 3,      /* the host's memory is exhausted */
	WISP_ERR_NAME_TAKEN = 4,     /* a sandbox of this name exists */
	WISP_ERR_NO_SANDBOX = 5,     /* there is no sandbox of this name */
	WISP_ERR_NOT_RUNNING = 6,    /* it exists and is not running */
	WISP_ERR_STILL_RUNNING = 7,  /* it has to be stopped first */
	WISP_ERR_IMAGE = 8,          /* the image is missing, truncated or no image */
	WISP_ERR_SETUP = 9,          /* a file of wisp is missing, or the monitor could not set up the machine */
	WISP_ERR_BOOT_FAILED = 10,   /* the guest ended before it was ready */
	WISP_ERR_BOOT_TIMEOUT = 11,  /* the guest was not ready in time */
	WISP_ERR_DISCONNECTED = 12,  /* the connection ended early: the sandbox stopped, or its monitor died */
	WISP_ERR_PROTOCOL = 13,      /* the guest's agent broke the protocol; only this connection ended */
	WISP_ERR_VERSION = 14,       /* the guest's agent speaks another version of the protocol */
	WISP_ERR_BUSY = 15,          /* the sandbox has as many connections as it serves at once */
	WISP_ERR_NO_SESSION = 16,    /* there is no session of this id (any more) */
	WISP_ERR_WRITER_TAKEN = 17,  /* another client writes to the session */
	WISP_ERR_EXEC_FAILED = 18,   /* the program never started: see `failure` and `stage` */
	WISP_ERR_TIMEOUT = 19,       /* the execution's timeout passed */
	WISP_ERR_OUTPUT_LIMIT = 20,  /* the program wrote more than was to be collected */
	WISP_ERR_NOT_UTF8 = 21,      /* the bytes are no valid UTF-8 */
	WISP_ERR_AGAIN = 22,         /* nothing happened within the call's timeout_ms */
	WISP_ERR_CANCELLED = 23,     /* the caller's own descriptor asked to stop */
	WISP_ERR_SESSION_ENDED = 24, /* the program has ended: nothing takes a signal or input any more */
	WISP_ERR_NO_TERMINAL = 25,   /* the descriptor is not a terminal */
	WISP_ERR_DISK_BUSY = 26,     /* another sandbox uses the disk, and one of the two would write to it */
	WISP_ERR_REFUSED = 27,       /* nothing in the guest listens on the port */
};

/* Why a program did not start. */
enum wisp_failure {
	WISP_FAILURE_OTHER = 0,
	WISP_FAILURE_NOT_FOUND = 1,
	WISP_FAILURE_PERMISSION_DENIED = 2,
	WISP_FAILURE_NOT_EXECUTABLE = 3,
	WISP_FAILURE_BAD_CWD = 4,
	WISP_FAILURE_BAD_ARGS = 5,
	WISP_FAILURE_RESOURCE_LIMIT = 6,
	WISP_FAILURE_USER_SETUP_FAILED = 7,
	WISP_FAILURE_OUT_OF_MEMORY = 8,
	WISP_FAILURE_PTY_SETUP_FAILED = 9,
};

/* What was being done when it failed. */
enum wisp_stage {
	WISP_STAGE_REQUEST = 0, /* reading and checking the request */
	WISP_STAGE_PIPE = 1,
	WISP_STAGE_PTY = 2,
	WISP_STAGE_FORK = 3,
	WISP_STAGE_RLIMIT = 4,
	WISP_STAGE_USER = 5,
	WISP_STAGE_CWD = 6,
	WISP_STAGE_EXEC = 7,
};

/* Allocated by the caller; needs no initialisation. Its layout never changes. */
struct wisp_error {
	enum wisp_status status;
	int errnum;                /* positive errno, the same that the call returned negated */
	enum wisp_failure failure; /* with WISP_ERR_EXEC_FAILED */
	enum wisp_stage stage;     /* with WISP_ERR_EXEC_FAILED */
	char message[1024];        /* one line for a person: what failed, on which object, why, what to do */
};

/* Names for messages and machine-readable output: "not_found", "exec", "name_taken". Static strings, never NULL. */
WISP_API const char *wisp_get_status_name(enum wisp_status status);
WISP_API const char *wisp_get_failure_name(enum wisp_failure failure);
WISP_API const char *wisp_get_stage_name(enum wisp_stage stage);
/* The symbol of an errno, "ENOENT"; "" for a number that has none. */
WISP_API const char *wisp_get_errno_name(int errnum);

/* ---- The host ---------------------------------------------------------------------------------------------------- */

enum wisp_kvm_state {
	WISP_KVM_OK = 1,       /* a virtual machine ran, at the speed of hardware */
	WISP_KVM_MISSING = 2,  /* there is no /dev/kvm */
	WISP_KVM_DENIED = 3,   /* this process may not open /dev/kvm */
	WISP_KVM_BROKEN = 4,   /* creating or running a virtual machine failed */
	WISP_KVM_EMULATED = 5, /* guest kernel mode is emulated instruction by instruction: no kernel boots */
};

enum wisp_io_uring_state {
	WISP_IO_URING_OK = 1,
	WISP_IO_URING_MISSING = 2, /* the kernel lacks it, or a seccomp filter hides it */
	WISP_IO_URING_DENIED = 3,  /* this process may not use it */
};

/* The caller allocates it and sets `size`. The strings are static. */
struct wisp_host_info {
	size_t size;
	enum wisp_kvm_state kvm;
	int kvm_errnum;         /* with MISSING, DENIED and BROKEN: why it failed, a positive errno; else 0 */
	const char *kvm_failed; /* with MISSING, DENIED and BROKEN: the operation that failed; else "" */
	double kvm_loop_ns;     /* with OK and EMULATED: nanoseconds that one iteration of an empty loop takes in guest
	                           kernel mode; 0 where this is not measured */
	enum wisp_io_uring_state io_uring;
	uint64_t memory_available_mib; /* memory that new processes can have without swapping; 0 if it is unknown */
	bool mksquashfs;               /* mksquashfs is installed, so that a directory can be an image */
};

/*
 * Examines whether this process can run sandboxes on this host, and fills *info. What is missing is a result and not an
 * error. The call runs a small virtual machine for some milliseconds (some hundred where KVM emulates).
 */
WISP_API int wisp_check_host(struct wisp_host_info *info, struct wisp_error *error);

/* ---- Sandboxes --------------------------------------------------------------------------------------------------- */

#define WISP_NAME_MAX 63u /* bytes of a sandbox's name: [a-z0-9][a-z0-9_.-]* */
#define WISP_MEMORY_MIB_DEFAULT 256u
#define WISP_MEMORY_MIB_MIN 32u
#define WISP_CPUS_MAX 64u
#define WISP_DISKS_MAX 8u /* beside the image */
#define WISP_BOOT_TIMEOUT_MS_DEFAULT 30000
#define WISP_STOP_GRACE_MS_DEFAULT 10000

/* What a disk's data goes through on the host, and what the guest's flush (fsync, a journal's barrier) means there. */
enum wisp_cache {
	WISP_CACHE_WRITEBACK = 0, /* the host's page cache; what was flushed is on stable storage */
	WISP_CACHE_DIRECT = 1,    /* past the page cache (O_DIRECT), where the file system can; the same promise */
	WISP_CACHE_UNSAFE = 2,    /* the page cache, and flushes do nothing: for data that may be lost with the host */
};

struct wisp_disk {
	const char *path; /* a file or block device, shown to the guest as a raw disk: /dev/vdb and so on */
	bool read_only;
	enum wisp_cache cache;
};

struct wisp_create_options {
	size_t size;
	/*
	 * The directory that holds a directory for each running sandbox. Required; created if it is missing (mode
	 * 0700), and refused if others may write to it. Paths in it must fit a Unix socket's address (about 80 bytes).
	 */
	const char *state_root;
	const char *name;    /* NULL: one is made up */
	uint32_t cpus;       /* 0: 1; at most WISP_CPUS_MAX and the host's processors */
	uint32_t memory_mib; /* 0: WISP_MEMORY_MIB_DEFAULT; at most the host's memory */
	/*
	 * The root file system: a file with a squashfs, erofs or ext4 image, or a directory, which is packed with
	 * mksquashfs into cache_dir and packed again only when something in it changed. NULL: the default image of
	 * libdir.
	 */
	const char *image;
	bool writable;       /* let the guest write to an ext4 image itself; else changes vanish with the sandbox */
	const char *overlay; /* a disk file that takes the changes to a read-only image; NULL: they live in memory */
	const struct wisp_disk *disks; /* further disks, in the order of their names in the guest */
	size_t disk_count;
	/* Defaults of every execution in it, each overridden by the execution's own option. */
	const char *const *env; /* "NAME=value" strings, ended by NULL */
	const char *workdir;    /* absolute; NULL: "/" */
	const char *user;       /* as in wisp_exec_options; NULL: root */
	const char *shell;      /* NULL: "/bin/sh" */
	const char *hostname;   /* NULL: the sandbox's name */
	/* Where wisp's own files are. */
	const char *libdir; /* wisp-vmm, vmlinux-up, vmlinux-smp, initramfs.cpio, base.squashfs; NULL: as installed */
	const char *helper; /* instead of libdir's wisp-vmm */
	const char *kernel; /* instead of libdir's vmlinux-up (one processor) or vmlinux-smp */
	const char *initramfs;   /* instead of libdir's initramfs.cpio */
	const char *cache_dir;   /* packed directories; required when image is a directory, created if it is missing */
	int64_t boot_timeout_ms; /* 0: WISP_BOOT_TIMEOUT_MS_DEFAULT */
	int64_t stop_grace_ms;   /* 0: WISP_STOP_GRACE_MS_DEFAULT; see wisp_stop_sandbox */
	/*
	 * The sandbox outlives the handle and this process. Else it is powered off, at once, when the handle is closed
	 * or the process ends, however it ends.
	 */
	bool detach;
	bool keep;      /* its directory with its logs stays when it has ended, until wisp_remove_sandbox */
	bool console;   /* all that the guest's kernel says is written to console.log, from its first word on; boots
	                   slower */
	bool no_wait;   /* return as soon as the monitor is started; then call wisp_wait_ready */
	int console_fd; /* with console: the monitor writes it here too, for instance to 2; 0: nowhere else */
	const char *kernel_args; /* further parameters of the guest's kernel; NULL: none */
	/*
	 * For measurements: the monitor notes when it reaches each stage of the sandbox's life, and writes it to the
	 * file `trace` in the sandbox's directory at the end (so `keep` is wanted): a JSON object a line, with `stage`,
	 * `ns` of CLOCK_MONOTONIC, and KVM's counts of exits where they are known.
	 */
	bool trace;
	const char *const *breakpoints; /* with trace: "NAME=0xADDRESS" of a place in the kernel, each met once; ended
	                                   by NULL */
	/*
	 * Boots `kernel`, a program for the bare machine, alone: no image, no initramfs, no agent, no disks. Such a
	 * sandbox never becomes ready and takes no commands, so no_wait is required: wait for its end. For
	 * measurements.
	 */
	bool bare;
};

/*
 * Boots a sandbox and waits until it takes commands. On failure nothing is left behind, and no process.
 * Release with wisp_close_sandbox.
 */
WISP_API int wisp_create_sandbox(
        const struct wisp_create_options *options, struct wisp_sandbox **sandbox, struct wisp_error *error);

/*
 * With no_wait: waits for the end of the boot. 0 when the sandbox is ready, -EAGAIN when timeout_ms passed first, else
 * the boot failed, and wisp_close_sandbox is all that is left to do. Not needed, and harmless, without no_wait.
 */
WISP_API int wisp_wait_ready(struct wisp_sandbox *sandbox, int64_t timeout_ms, struct wisp_error *error);

/* A running sandbox that this or another process created. Closing such a handle never stops the sandbox. */
WISP_API int wisp_open_sandbox(
        const char *state_root, const char *name, struct wisp_sandbox **sandbox, struct wisp_error *error);

/*
 * Releases the handle. A sandbox that this handle created without `detach` is powered off at once, without letting its
 * programs end (for that call wisp_stop_sandbox first), and is gone when this returns. Sessions, stdin writers and
 * control handles stay valid objects and are closed on their own.
 */
WISP_API void wisp_close_sandbox(struct wisp_sandbox *sandbox);

/* Its name, and its directory. Both live as long as the handle. */
WISP_API const char *wisp_get_sandbox_name(const struct wisp_sandbox *sandbox);
WISP_API const char *wisp_get_sandbox_dir(const struct wisp_sandbox *sandbox);

/*
 * A descriptor that polls readable when wisp_wait_ready (with no_wait) or wisp_wait_sandbox has something to return.
 * It belongs to the handle: do not read or close it.
 */
WISP_API int wisp_get_sandbox_fd(const struct wisp_sandbox *sandbox);

/*
 * Stops it in order: the guest's programs get SIGTERM, file systems are written and unmounted, the machine powers
 * off. What has not ended after grace_ms (0: the sandbox's own) is killed. Returns when it is gone; 0 if it had
 * already been.
 */
WISP_API int wisp_stop_sandbox(struct wisp_sandbox *sandbox, int64_t grace_ms, struct wisp_error *error);

/* Ends it at once, as pulling the plug does. Returns when it is gone. */
WISP_API int wisp_kill_sandbox(struct wisp_sandbox *sandbox, struct wisp_error *error);

enum wisp_end {
	WISP_END_UNKNOWN = 0, /* the monitor died without a word, or its record is gone */
	WISP_END_POWEROFF = 1,
	WISP_END_REBOOT = 2, /* the guest asked to reboot: a sandbox ends then */
	WISP_END_PANIC = 3,
	WISP_END_TRIPLE_FAULT = 4,
	WISP_END_BOOT_FAILED = 5,
	WISP_END_BOOT_TIMEOUT = 6,
	WISP_END_KILLED = 7,
	WISP_END_INTERNAL = 8, /* the monitor gave up */
};

WISP_API const char *wisp_get_end_name(enum wisp_end end);

/* Waits until the sandbox has ended and says why in *end (which may be NULL). -EAGAIN: timeout_ms passed first. */
WISP_API int wisp_wait_sandbox(
        struct wisp_sandbox *sandbox, int64_t timeout_ms, enum wisp_end *end, struct wisp_error *error);

/*
 * Reads what the monitor of a sandbox created with `trace` and `keep` noted (see wisp_create_options), after the
 * sandbox has ended. Stores a NUL-terminated string in *text, and its length in bytes in *length, which may be NULL.
 * -EBUSY while the sandbox runs, -ENOENT if it left no trace. Release with wisp_free_text.
 */
WISP_API int wisp_read_trace(struct wisp_sandbox *sandbox, char **text, size_t *length, struct wisp_error *error);
WISP_API void wisp_free_text(char *text);

/* Deletes what a sandbox that does not run has left, logs included. -EBUSY while it runs. */
WISP_API int wisp_remove_sandbox(const char *state_root, const char *name, struct wisp_error *error);

enum wisp_sandbox_state {
	WISP_SANDBOX_BOOTING = 1,
	WISP_SANDBOX_RUNNING = 2,
	WISP_SANDBOX_STOPPED = 3, /* ended in order, or by itself: `end` says how */
	WISP_SANDBOX_STALE = 4,   /* its monitor died without a word; the next of this name replaces it */
};

struct wisp_sandbox_info {
	const char *name;
	const char *dir;
	enum wisp_sandbox_state state;
	enum wisp_end end;    /* with STOPPED */
	const char *end_text; /* with STOPPED: the monitor's words; "" if there are none */
	int32_t pid;          /* the monitor's, 0 when it does not run */
	uint32_t cpus;
	uint32_t memory_mib;
	const char *image;
	bool writable;
	bool detach;
	bool keep;
	int64_t created_ns; /* CLOCK_REALTIME */
	const char *workdir;
	const char *user;
	const char *shell;
	const char *hostname;
	const char *const *env; /* ended by NULL */
};

/* One sandbox, running or not. Release with wisp_free_sandbox_info. */
WISP_API int wisp_inspect_sandbox(
        const char *state_root, const char *name, struct wisp_sandbox_info **info, struct wisp_error *error);
WISP_API void wisp_free_sandbox_info(struct wisp_sandbox_info *info);

/*
 * All sandboxes under a state root, by name, as an array ended by NULL; the result is their number. What stale
 * sandboxes without `keep` left behind is deleted on the way. A state root that does not exist holds none. Release with
 * wisp_free_sandbox_list.
 */
WISP_API int wisp_list_sandboxes(const char *state_root, struct wisp_sandbox_info ***list, struct wisp_error *error);
WISP_API void wisp_free_sandbox_list(struct wisp_sandbox_info **list);

/*
 * Removes all sandboxes whose monitor died without a word (WISP_SANDBOX_STALE), and what processes that died left half
 * made in the state directory. With dry_run nothing is removed. Returns how many sandboxes that are; *removed (may be
 * NULL) lists them, to be released with wisp_free_sandbox_list.
 */
WISP_API int wisp_prune_sandboxes(
        const char *state_root, bool dry_run, struct wisp_sandbox_info ***removed, struct wisp_error *error);

/* ---- Executions -------------------------------------------------------------------------------------------------- */

#define WISP_RLIMIT_INFINITY UINT64_MAX
#define WISP_OUTPUT_LIMIT_DEFAULT ((size_t)64 << 20)
#define WISP_OUTPUT_LIMIT_NONE SIZE_MAX
#define WISP_CLIENTS_MAX 128u /* connections that a sandbox serves at once: one for each open session handle */

/* Set before the user is changed, in the order given. Unknown names and soft > hard are refused on the host. */
struct wisp_rlimit {
	/*
	 * "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
	 * "rtprio", "rttime", "sigpending", "stack": setrlimit(2)'s limits in its units (seconds of cpu, bytes of as,
	 * ...)
	 */
	const char *resource;
	uint64_t soft;
	uint64_t hard;
};

enum wisp_stdin_mode {
	WISP_STDIN_NULL = 0,  /* /dev/null: the program reads the end of file (with tty: one ^D is typed) */
	WISP_STDIN_BYTES = 1, /* stdin_data, then the end of file */
	WISP_STDIN_PIPE = 2,  /* what a stdin writer sends: wisp_take_stdin */
};

/* What one execution has of its own. Nothing here changes the sandbox's defaults. */
struct wisp_exec_options {
	size_t size;
	const char *cwd;        /* absolute; NULL: the sandbox's workdir */
	const char *const *env; /* "NAME=value" strings ended by NULL, over the sandbox's; a later one wins */
	const char *user; /* "name", "uid", "name:group" or "uid:gid", looked up in the guest; NULL: the sandbox's */
	/*
	 * 0: none. When it passes, every process in the program's group is killed (SIGKILL), by the guest itself;
	 * should the guest hang, the library stops waiting two seconds later.
	 */
	int64_t timeout_ms;
	const struct wisp_rlimit *rlimits;
	size_t rlimit_count;
	bool tty;      /* a pseudo-terminal is its stdin, stdout and stderr; all output arrives as stdout */
	uint16_t rows; /* with tty; 0: 24 */
	uint16_t cols; /* with tty; 0: 80 */
	enum wisp_stdin_mode stdin_mode;
	const void *stdin_data; /* with WISP_STDIN_BYTES */
	size_t stdin_length;
	/* What wisp_exec, wisp_shell and wisp_collect_output gather at most, in bytes of stdout and stderr together. */
	size_t output_limit; /* 0: WISP_OUTPUT_LIMIT_DEFAULT */
};

struct wisp_exit_status {
	int code;       /* -1 when a signal ended it */
	int signal;     /* 0 when it exited by itself */
	bool success;   /* code is 0 */
	bool timed_out; /* it was killed by its timeout */
};

/* A collected execution. */
struct wisp_output {
	struct wisp_exit_status status; /* code is -1 and signal 0 when its end was not seen */
	const uint8_t *stdout_data;     /* never NULL; a NUL that is not counted follows */
	size_t stdout_length;
	const uint8_t *stderr_data;
	size_t stderr_length;
	uint64_t dropped; /* bytes that a session's watcher missed; 0 for what was executed here */
};

/*
 * Runs a program, waits for its end and collects what it wrote. argv ends with NULL; argv[0] is looked up in the PATH
 * of the execution's environment and is passed as it is: there is no shell. A program that exits non-zero or is
 * killed is a result, not an error.
 *
 * *output is set on success, and also on an error after the program started, with what had arrived: on a timeout
 * (-ETIMEDOUT), when output_limit was exceeded (-EOVERFLOW; the program is killed), when the sandbox went away. It is
 * NULL otherwise. Release with wisp_free_output.
 */
WISP_API int wisp_exec(struct wisp_sandbox *sandbox, const char *const *argv, const struct wisp_exec_options *options,
        struct wisp_output **output, struct wisp_error *error);

/* The same for `SHELL -c script args...`, with the sandbox's shell. args ends with NULL, or is NULL; args[0] is $0. */
WISP_API int wisp_shell(struct wisp_sandbox *sandbox, const char *script, const char *const *args,
        const struct wisp_exec_options *options, struct wisp_output **output, struct wisp_error *error);

WISP_API void wisp_free_output(struct wisp_output *output);

/* stdout or stderr as a NUL-terminated string that lives as long as the output; -EILSEQ where it is no UTF-8. */
WISP_API int wisp_get_stdout_text(const struct wisp_output *output, const char **text, struct wisp_error *error);
WISP_API int wisp_get_stderr_text(const struct wisp_output *output, const char **text, struct wisp_error *error);

/* ---- Sessions ---------------------------------------------------------------------------------------------------- */

/*
 * The same as wisp_exec and wisp_shell, without waiting: the session's events tell what happens. They return when the
 * request is sent, before the program has started: even a program that cannot start is told by an event. Release with
 * wisp_close_session.
 */
WISP_API int wisp_exec_stream(struct wisp_sandbox *sandbox, const char *const *argv,
        const struct wisp_exec_options *options, struct wisp_session **session, struct wisp_error *error);
WISP_API int wisp_shell_stream(struct wisp_sandbox *sandbox, const char *script, const char *const *args,
        const struct wisp_exec_options *options, struct wisp_session **session, struct wisp_error *error);

struct wisp_open_options {
	size_t size;
	bool live;  /* begin with what comes from now on; else with the output that the guest has retained */
	bool write; /* take the writer's part: stdin, and output that waits for this client; refused while another has
	               it */
	size_t output_limit; /* as in wisp_exec_options */
};

/*
 * Takes part in a session that exists, running or ended, whoever started it. A client that only watches and falls
 * behind loses output and is told how much. Release with wisp_close_session.
 */
WISP_API int wisp_open_session(struct wisp_sandbox *sandbox, uint64_t id, const struct wisp_open_options *options,
        struct wisp_session **session, struct wisp_error *error);

/*
 * Releases the handle. The program is not killed: its session goes on in the guest, is listed, and can be opened again.
 * Its stdin stays open; close the stdin writer first to give it the end of file.
 */
WISP_API void wisp_close_session(struct wisp_session *session);

enum wisp_event_type {
	WISP_EVENT_STARTED = 1,     /* id and pid hold; always the first, unless FAILED */
	WISP_EVENT_STDOUT = 2,      /* data and length hold */
	WISP_EVENT_STDERR = 3,      /* data and length hold; never with a tty */
	WISP_EVENT_DROPPED = 4,     /* `dropped` bytes of output were lost here */
	WISP_EVENT_STDIN_ERROR = 5, /* errnum, errno_name, message: stdin is closed, the session goes on */
	WISP_EVENT_EXITED = 6,      /* status holds: the program has ended and all it wrote was delivered */
	WISP_EVENT_FAILED = 7,      /* failure, stage, errnum, errno_name, message: the program never started */
	WISP_EVENT_DONE = 8,        /* nothing more will come; returned again by every further call */
};

/* Fields that a type does not name are zero; strings are never NULL. */
struct wisp_event {
	enum wisp_event_type type;
	uint64_t id;
	uint32_t pid; /* in the guest */
	const uint8_t *data;
	size_t length;
	uint64_t dropped;
	struct wisp_exit_status status;
	enum wisp_failure failure;
	enum wisp_stage stage;
	int errnum;
	const char *errno_name;
	const char *message;
};

/*
 * The next event, which lives until the next call on this session. -EAGAIN when there is none within timeout_ms.
 * -ETIMEDOUT when the guest hangs beyond the execution's timeout. Other errors mean that the connection is lost.
 */
WISP_API int wisp_recv_event(
        struct wisp_session *session, int64_t timeout_ms, const struct wisp_event **event, struct wisp_error *error);

/*
 * A descriptor that polls readable when wisp_recv_event has something to return. It belongs to the session: do not read
 * or close it. -1 with errno set when there are no descriptors left.
 */
WISP_API int wisp_get_session_fd(struct wisp_session *session);

/* The session's id: unique while the sandbox lives, never reused; the same in lists and logs. Waits for STARTED. */
WISP_API int wisp_get_session_id(struct wisp_session *session, uint64_t *id, struct wisp_error *error);

/*
 * Waits for the program's end and discards its output. Errors are those of wisp_exec: a program that never started is
 * WISP_ERR_EXEC_FAILED, one killed by its timeout WISP_ERR_TIMEOUT (then *status holds).
 */
WISP_API int wisp_wait_session(struct wisp_session *session, struct wisp_exit_status *status, struct wisp_error *error);

/* Waits for the program's end and collects the output from here on. *output and errors are those of wisp_exec. */
WISP_API int wisp_collect_output(struct wisp_session *session, struct wisp_output **output, struct wisp_error *error);

/*
 * To the process group of the session's program. They never wait behind stdin. -ESRCH when the program has ended.
 * Before STARTED has arrived they are kept by the guest and reach the program.
 */
WISP_API int wisp_signal_session(struct wisp_session *session, int signal, struct wisp_error *error);
WISP_API int wisp_kill_session(struct wisp_session *session, struct wisp_error *error);
/* The size of its terminal. */
WISP_API int wisp_resize_session(struct wisp_session *session, uint16_t rows, uint16_t cols, struct wisp_error *error);

/*
 * A handle for other threads: its calls may be made at any time, by several threads at once, also while the session
 * waits in another. It may outlive the session's handle; its calls then return -ENOTCONN. Any number may be opened.
 * Release with wisp_close_control.
 */
WISP_API int wisp_open_control(struct wisp_session *session, struct wisp_control **control, struct wisp_error *error);
WISP_API void wisp_close_control(struct wisp_control *control);
/* 0 while STARTED has not been received. */
WISP_API uint64_t wisp_get_control_id(const struct wisp_control *control);
WISP_API int wisp_signal_control(struct wisp_control *control, int signal, struct wisp_error *error);
WISP_API int wisp_kill_control(struct wisp_control *control, struct wisp_error *error);
WISP_API int wisp_resize_control(struct wisp_control *control, uint16_t rows, uint16_t cols, struct wisp_error *error);

/*
 * The writer of the session's stdin: NULL unless it was started with WISP_STDIN_PIPE or opened with `write` while its
 * stdin was open, and NULL when it was taken before. It may be used in another thread than the session and may outlive
 * its handle; writes then return -ENOTCONN. Release with wisp_close_stdin.
 */
WISP_API struct wisp_stdin *wisp_take_stdin(struct wisp_session *session);

/*
 * Sends up to `length` bytes; the result is how many were sent, which is fewer only when timeout_ms passed (-EAGAIN
 * when none were). It waits while the program does not read, with bounded memory on every hop. A program may read only
 * as fast as its output is received: a single thread that writes much and receives should give timeout_ms 0 and poll.
 * -EPIPE when the program has closed its stdin or ended.
 */
WISP_API ptrdiff_t wisp_write_stdin(
        struct wisp_stdin *writer, const void *data, size_t length, int64_t timeout_ms, struct wisp_error *error);

/*
 * A descriptor that polls readable while a write would send something or fail. It changes only as the session's events
 * are received or a write waits. It belongs to the writer: do not read or close it.
 */
WISP_API int wisp_get_stdin_fd(struct wisp_stdin *writer);

/* Gives the program the end of file (with a tty: types ^D) and releases the writer. */
WISP_API void wisp_close_stdin(struct wisp_stdin *writer);

struct wisp_session_info {
	uint64_t id;
	uint32_t pid; /* in the guest */
	bool tty;
	bool stdin_open; /* its stdin is a pipe that nobody has closed */
	bool has_writer; /* a client writes to it */
	bool exited;     /* then status holds */
	struct wisp_exit_status status;
	int64_t started_ns;      /* the guest's CLOCK_REALTIME */
	uint32_t clients;        /* connected to it now */
	const char *const *argv; /* ended by NULL; cut where it is long */
};

/*
 * Sessions of a sandbox, by id, as an array ended by NULL; the result is their number. Sessions that ended are listed
 * as long as the guest retains their output. Release with wisp_free_session_list.
 */
WISP_API int wisp_list_sessions(
        struct wisp_sandbox *sandbox, struct wisp_session_info ***list, struct wisp_error *error);
WISP_API void wisp_free_session_list(struct wisp_session_info **list);

/* Round trip to the guest's agent over a new connection and back, without starting anything: in nanoseconds. */
WISP_API int wisp_ping_sandbox(struct wisp_sandbox *sandbox, int64_t *round_trip_ns, struct wisp_error *error);

/* ---- Ports ------------------------------------------------------------------------------------------------------- */

/*
 * Programs in the guest and on the host reach each other over vsock (vsock(7)): streams of bytes, addressed by a
 * number of 32 bits, 1024 being the agent's. The descriptors that these calls return are stream sockets of the caller,
 * who closes them. They block and are close-on-exec.
 */

/*
 * Connects to a port on which a program in the guest listens, and stores the connected socket in *fd. Waits up to
 * timeout_ms for the guest to accept, and at most 30 seconds (also if timeout_ms is negative). -ECONNREFUSED if nothing
 * listens there, -EAGAIN if timeout_ms passed first, -ETIMEDOUT if the guest hangs.
 */
WISP_API int wisp_connect_port(
        struct wisp_sandbox *sandbox, uint32_t port, int64_t timeout_ms, int *fd, struct wisp_error *error);

/*
 * Listens on a port of the host: the guest reaches it as CID 2 (VMADDR_CID_HOST). Stores a listening socket in *fd, on
 * which accept4(2) returns the guest's connections. A connection of the guest is refused while nothing listens or the
 * backlog is full. Close the socket to stop listening. -EADDRINUSE if another process listens on the port.
 */
WISP_API int wisp_listen_port(struct wisp_sandbox *sandbox, uint32_t port, int *fd, struct wisp_error *error);

/* ---- Terminals --------------------------------------------------------------------------------------------------- */

struct wisp_attach_options {
	size_t size;
	int input_fd;  /* a terminal; the default, 0, is stdin */
	int output_fd; /* the same terminal; 0: input_fd */
	/*
	 * What detaches: keys separated by commas, each one character or "ctrl-" and one of a-z [ \ ] ^ _ @. NULL:
	 * "ctrl-]". Keys that turn out to be no full sequence are delivered.
	 */
	const char *detach_keys;
	/*
	 * Descriptors of the caller, 0: none. The library installs no signal handlers, so the caller says when the
	 * terminal's size may have changed (a signalfd of SIGWINCH, for instance: all that can be read is read and
	 * discarded), and when to give up (for instance at SIGTERM; not read).
	 */
	int resize_fd;
	int cancel_fd;
};

/*
 * Bridges a terminal to a session that has a tty. The terminal is in raw mode meanwhile and is always set back before
 * this returns. Output that was lost is marked by a line "[123 bytes of output were lost here]". Where the session's
 * stdin is another client's, only the detach keys are looked at. Uses up the session's stdin writer and events.
 *
 * 0: the program ended, and *status holds. 1: detached, by its keys or because the terminal hung up; the program goes
 * on. -ECANCELED: cancel_fd became readable; the program goes on. -ETIMEDOUT: the execution's timeout passed.
 */
WISP_API int wisp_attach_session(struct wisp_session *session, const struct wisp_attach_options *options,
        struct wisp_exit_status *status, struct wisp_error *error);

/*
 * The same for a new session, whose id is stored in *id unless that is NULL; its size is the terminal's. options->tty,
 * rows, cols and stdin are set as needed. argv NULL: the sandbox's shell.
 */
WISP_API int wisp_attach(struct wisp_sandbox *sandbox, const char *const *argv, const struct wisp_exec_options *options,
        const struct wisp_attach_options *attach, uint64_t *id, struct wisp_exit_status *status,
        struct wisp_error *error);

/* ---- Logs -------------------------------------------------------------------------------------------------------- */

enum wisp_log_source {
	WISP_LOG_STDOUT = 1u << 0,
	WISP_LOG_STDERR = 1u << 1,
	WISP_LOG_EVENTS = 1u << 2, /* started, exited, failed, dropped */
};

struct wisp_logs_options {
	size_t size;
	unsigned sources; /* enum wisp_log_source, or-ed; 0: all */
	uint64_t session; /* 0: all */
	int64_t since_ns; /* CLOCK_REALTIME; 0: from the beginning */
	uint64_t tail;    /* only the last so many records of those that match; 0: all */
	bool follow;      /* then wait for more, until the sandbox has ended */
};

struct wisp_log_record {
	int64_t time_ns; /* CLOCK_REALTIME, when the guest read or saw it */
	uint64_t session;
	const char *stream;  /* "stdout", "stderr", "started", "exited", "failed", "dropped" */
	const uint8_t *data; /* what was written, or words about the event; exactly the bytes */
	size_t length;
	const char *line; /* the record as it is in exec.log: one JSON object, without the newline */
};

/* The log of everything that was executed in a sandbox, running or not. Release with wisp_close_logs. */
WISP_API int wisp_open_logs(const char *state_root, const char *name, const struct wisp_logs_options *options,
        struct wisp_logs **logs, struct wisp_error *error);

/*
 * The next record, which lives until the next call. 1: *record is set; 0: there are no more. -EAGAIN: with follow, none
 * within timeout_ms. Lines that are no records are skipped.
 */
WISP_API int wisp_recv_log(
        struct wisp_logs *logs, int64_t timeout_ms, const struct wisp_log_record **record, struct wisp_error *error);

/* With follow: polls readable when wisp_recv_log may have something. Belongs to the logs: do not read or close it. */
WISP_API int wisp_get_logs_fd(const struct wisp_logs *logs);

WISP_API void wisp_close_logs(struct wisp_logs *logs);

#ifdef __cplusplus
}
#endif

#endif
