/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libwisp: run commands in microVMs.
 *
 * A sandbox is a virtual machine with its own kernel. It is run by a monitor, a separate process (wisp-vmm): neither a
 * crash of the monitor nor anything that a guest does reaches the program that uses this library. A sandbox runs any
 * number of sessions, which are programs that each have their own standard input, output and exit status.
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
 * Errors. A call that can fail returns a negative errno. On success it returns 0, or a count if its description says
 * so. On failure it fills in the struct wisp_error that its last parameter points to, unless that parameter is NULL. On
 * success it leaves that structure unchanged.
 *
 * NULL. Errors and options may be NULL, and other pointers where a description says so. Otherwise, a call that gets
 * NULL returns -EINVAL with WISP_ERR_INVALID, or, if it has no error to return, one of -1, 0, NULL and "".
 *
 * Options. Every options structure begins with `size`. Set it to sizeof the structure, and set the options that you do
 * not use to zero, which is each option's default. NULL instead of a structure means all defaults. A program that was
 * compiled with another version of this header works: the library refuses options that it does not know, unless they
 * are zero. It copies options, strings and arrays, which therefore need to be valid only during the call.
 *
 * Arrays. Where options point to an array of structures, they also hold the size of an element: `disk_size` is
 * sizeof(struct wisp_disk). Elements of another version are treated as options are. Zero the fields that you do not
 * use.
 *
 * Descriptors. An option that is a descriptor, and may be absent, is a pointer to an int: NULL means none, and 0 is a
 * descriptor like any other.
 *
 * Results. The library allocates the structures that it returns, and a later version may append fields to them: read
 * them through the pointer that you got, and do not embed them or copy them as a whole into something that another
 * version of this header described. You allocate struct wisp_error and struct wisp_exit_status, whose sizes never
 * change, and struct wisp_host_info, which has a `size` as options do.
 *
 * Objects. You own an object that a call stores through a pointer to a pointer; release it with the call that its
 * description names. Releasing NULL does nothing. The library owns an object that a call returns as a pointer to const;
 * its description says how long it is valid.
 *
 * Threads. Different threads may make calls on different objects at the same time, and calls that take no object. They
 * may use a struct wisp_sandbox at the same time, except to close it, and a struct wisp_control. Any other object is
 * for one thread at a time. A session's stdin writer and its control handles are objects of their own: other threads
 * may use them while the session is in use. No call is async-signal-safe: do not make calls in signal handlers.
 *
 * fork(). After fork(2), only the parent may use or release the objects that existed before; in the child they stay
 * unused. A child that goes on without execve(2) may create objects of its own, if the parent had a single thread. A
 * sandbox without `detach` ends with the process that created it, not with that process's children.
 *
 * Time. Durations are milliseconds, in a signed 64-bit integer. As the `timeout_ms` of a call that waits, 0 does not
 * wait and a negative number waits without limit. Each kind of wait has a descriptor that you can poll(2) instead.
 * Where a call has no timeout_ms, it waits at most 10 seconds for an answer of the guest, unless its description says
 * otherwise. A wait continues after a signal handler has run, unless struct wisp_cancel says otherwise.
 *
 * Side effects. The library never exits, prints, reads the environment, changes signal dispositions or the working
 * directory, or starts threads. A broken connection is an error and never raises SIGPIPE. All descriptors that it opens
 * are close-on-exec. An open handle of a sandbox keeps a connection to the guest from one request to the next. Its only
 * child processes are wisp-vmm, wisp-fs, wisp-proxy, passt and mksquashfs, which it reaps by their pid; it still works
 * in a program that ignores SIGCHLD or reaps all children.
 *
 * Strings that come from or go to the guest are bytes, which end with NUL. The library assumes nothing about their
 * encoding, unless a description says UTF-8.
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
struct wisp_control; /* signals and resizes a session, in any thread */
struct wisp_logs;    /* reads a sandbox's log */

/* The version of this header. */
#define WISP_VERSION_MAJOR 0
#define WISP_VERSION_MINOR 2
#define WISP_VERSION_PATCH 0
/* The version as one number, for comparisons: 1.2.3 is 1002003. */
#define WISP_VERSION_NUMBER (WISP_VERSION_MAJOR * 1000000 + WISP_VERSION_MINOR * 1000 + WISP_VERSION_PATCH)
/* The number of the shared library, libwisp.so.1. It grows when programs have to be compiled again. */
#define WISP_SO_VERSION 1

/* Returns the version of the library that is linked, such as "0.2.0". The string is static. */
WISP_API const char *wisp_get_version(void);

/* ---- Errors ------------------------------------------------------------------------------------------------------ */

enum wisp_status {
	WISP_OK = 0,
	WISP_ERR_INVALID = 1,        /* an argument or option is not valid; nothing was started */
	WISP_ERR_SYSTEM = 2,         /* a system call on the host failed */
	WISP_ERR_NO_MEMORY = 3,      /* the host is out of memory */
	WISP_ERR_NAME_TAKEN = 4,     /* a sandbox of this name exists */
	WISP_ERR_NO_SANDBOX = 5,     /* there is no sandbox of this name */
	WISP_ERR_NOT_RUNNING = 6,    /* the sandbox exists but is not running */
	WISP_ERR_STILL_RUNNING = 7,  /* the sandbox has to be stopped first */
	WISP_ERR_IMAGE = 8,          /* the image is missing, truncated or not an image */
	WISP_ERR_SETUP = 9,          /* a file of wisp is missing, or the monitor could not set up the machine */
	WISP_ERR_BOOT_FAILED = 10,   /* the guest ended before it was ready */
	WISP_ERR_BOOT_TIMEOUT = 11,  /* the guest was not ready in time */
	WISP_ERR_DISCONNECTED = 12,  /* the connection ended early: the sandbox stopped, or its monitor died */
	WISP_ERR_PROTOCOL = 13,      /* the guest's agent violated the protocol; only this connection ended */
	WISP_ERR_VERSION = 14,       /* the guest's agent speaks another version of the protocol */
	WISP_ERR_BUSY = 15,          /* the sandbox serves as many connections as it can */
	WISP_ERR_NO_SESSION = 16,    /* there is no session with this id, or no longer */
	WISP_ERR_WRITER_TAKEN = 17,  /* another client writes to the session */
	WISP_ERR_EXEC_FAILED = 18,   /* the program did not start: see `failure` and `stage` */
	WISP_ERR_TIMEOUT = 19,       /* the execution's timeout passed */
	WISP_ERR_OUTPUT_LIMIT = 20,  /* the program wrote more than output_limit */
	WISP_ERR_NOT_UTF8 = 21,      /* the bytes are not valid UTF-8 */
	WISP_ERR_AGAIN = 22,         /* nothing happened within the call's timeout_ms */
	WISP_ERR_CANCELLED = 23,     /* the caller ended the call: see struct wisp_cancel */
	WISP_ERR_SESSION_ENDED = 24, /* the program has ended and takes no more signals or input */
	WISP_ERR_NO_TERMINAL = 25,   /* the descriptor is not a terminal */
	WISP_ERR_DISK_BUSY = 26,     /* another sandbox uses the disk, and one of the two would write to it */
	WISP_ERR_REFUSED = 27,       /* nothing in the guest listens on the port */
	WISP_ERR_SNAPSHOT = 28,      /* the file is not a snapshot that this host can use, or it is damaged */
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

/* The step at which starting a program failed. */
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

/* The caller allocates it and need not initialize it. Its layout never changes. */
struct wisp_error {
	enum wisp_status status;
	int errnum;                /* a positive errno; the call returned -errnum */
	enum wisp_failure failure; /* with WISP_ERR_EXEC_FAILED */
	enum wisp_stage stage;     /* with WISP_ERR_EXEC_FAILED */
	char message[1024];        /* one line for people, in UTF-8: what failed, on what, why, and what to do */
};

/*
 * Return names for machine-readable output, such as "name_taken", "not_found" and "exec"; "unknown" for a number that
 * has no name. The strings are static.
 */
WISP_API const char *wisp_get_status_name(enum wisp_status status);
WISP_API const char *wisp_get_failure_name(enum wisp_failure failure);
WISP_API const char *wisp_get_stage_name(enum wisp_stage stage);
/* Returns the symbol of a positive errno, such as "ENOENT"; "" for a number that has none. The string is static. */
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
	WISP_IO_URING_OLD = 4,     /* the kernel's, of before Linux 5.19, lacks what the monitor needs */
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

/* ---- Cancellation ------------------------------------------------------------------------------------------------ */

/*
 * How a call that waits can be ended early. It then returns WISP_ERR_CANCELLED, with -ECANCELED or -EINTR. What it
 * waited for goes on: a program in the guest runs, a sandbox stops. The object stays usable, and a call may be
 * repeated. Only wisp_create_sandbox undoes what it did.
 */
struct wisp_cancel {
	size_t size;
	/*
	 * The caller's descriptor, for instance an eventfd(2), which cancels as long as it polls readable; NULL: none.
	 * The library neither reads nor closes it.
	 */
	const int *fd;
	/*
	 * Also end, with -EINTR, when a signal handler runs while the call waits. One that runs shortly before is not
	 * noticed: where that matters, have the handler make `fd` readable.
	 */
	bool interruptible;
};

/* ---- Progress ---------------------------------------------------------------------------------------------------- */

/* How a call that handles much data reports how far it is. */
struct wisp_progress {
	size_t size;
	/*
	 * Called now and then, in the thread that made the call, with the bytes that are done and their total. It must
	 * not use the call's objects.
	 */
	void (*report)(void *context, uint64_t done, uint64_t total);
	void *context;
};

/* ---- Sandboxes --------------------------------------------------------------------------------------------------- */

#define WISP_NAME_MAX 63u /* bytes of a sandbox's name, which matches [a-z0-9][a-z0-9_.-]* */
#define WISP_MEMORY_MIB_DEFAULT 256u
#define WISP_MEMORY_MIB_MIN 32u
#define WISP_CPUS_MAX 64u
#define WISP_DISKS_MAX 8u /* in addition to the image */
#define WISP_BOOT_TIMEOUT_MS_DEFAULT 30000
#define WISP_STOP_GRACE_MS_DEFAULT 10000

/* How the host caches a disk, and what the guest's flushes (fsync(2), a journal's barriers) do. */
enum wisp_cache {
	WISP_CACHE_WRITEBACK = 0, /* in the page cache; a flush waits until the data is on stable storage */
	WISP_CACHE_DIRECT = 1,    /* not at all (O_DIRECT); a flush waits likewise */
	WISP_CACHE_UNSAFE = 2,    /* in the page cache; a flush does nothing: the host's crash may lose all data */
};

/*
 * How much may pass through a device, in both directions together, after a burst of a tenth of a second's worth. The
 * guest waits then, as for a slow device, and loses nothing. 0: unlimited.
 */
struct wisp_rate {
	uint64_t bytes;      /* a second */
	uint64_t operations; /* a second: requests of a disk, packets with data of the vsock device, frames */
};

struct wisp_disk {
	const char *path; /* a file or block device; the guest sees a raw disk: /dev/vdb and so on */
	bool read_only;
	enum wisp_cache cache;
	struct wisp_rate rate;
};

#define WISP_FOLDERS_MAX 8u

/* Who owns the files of a shared folder, as the guest sees it. */
enum wisp_owners {
	WISP_OWNERS_SQUASH = 0, /* root owns all; on the host, what the guest creates belongs to this process's user */
	WISP_OWNERS_MAP = 1,    /* ids of the guest are ids of the host: only for root */
};

/* How long the guest may use what it knows of a shared folder without asking again. */
enum wisp_folder_cache {
	WISP_FOLDER_AUTO = 0, /* what the host changes is seen within a second */
	/*
	 * As long as it has room for it. You promise that nothing but this sandbox changes the folder while the
	 * sandbox runs; what is changed all the same is not seen. The sandbox cannot be saved
	 * (wisp_snapshot_sandbox), and can be forked only if the folder is read-only: then nothing may change it until
	 * the last clone has ended.
	 */
	WISP_FOLDER_ALWAYS = 1,
};

/*
 * A folder of the host, or a single regular file, that the guest uses too. Device nodes cannot be opened through it,
 * nor made, and no file of it gets a setuid or setgid bit. A process of its own serves it, wisp-fs, which ends with the
 * sandbox.
 */
struct wisp_folder {
	const char *path; /* on the host */
	/*
	 * An absolute path of the guest, of at most 255 bytes; what is missing of it is created. "/", only of the
	 * first folder: the guest's root, instead of an image. It is then read-only, and changes stay in memory.
	 */
	const char *guest;
	bool read_only;
	enum wisp_owners owners;
	enum wisp_folder_cache cache;
};

#define WISP_PORTS_MAX 64u

/* A place on the host that leads to a TCP server of the guest: see wisp_add_port. */
struct wisp_port {
	const char *host;
	uint16_t guest_port;
};

/*
 * The monitor's jail: what it gives up before the guest runs, so that a guest that breaks out of its machine gains
 * little. Its layers are independent; docs/internals/security.md describes each.
 */
enum wisp_jail_layer {
	WISP_LAYER_PRIVILEGES = 1 << 0, /* no capabilities, no new privileges; other processes cannot read its memory */
	WISP_LAYER_NAMESPACES = 1 << 1, /* no network, and no IPC with others */
	WISP_LAYER_LIMITS = 1 << 2,     /* its memory next to the guest's, its descriptors; no core dumps */
	WISP_LAYER_LANDLOCK = 1 << 3,   /* no file outside the state root */
	WISP_LAYER_SECCOMP = 1 << 4,    /* no system call that it does not need */
	WISP_LAYER_IO_URING = 1 << 5,   /* no operation of io_uring that it does not need */
	WISP_LAYER_ALL = (1 << 6) - 1,
};

enum wisp_jail_mode {
	WISP_JAIL_DEFAULT, /* every layer that the host has and allows */
	WISP_JAIL_REQUIRE, /* all layers: without one, the sandbox does not start */
	/*
	 * None but that of io_uring: the monitor keeps all rights of its user, and so does a guest that breaks out. For
	 * looking into the monitor with a debugger.
	 */
	WISP_JAIL_OFF,
};

/* What carries out the monitor's input and output. */
enum wisp_engine {
	WISP_ENGINE_AUTO,     /* io_uring if the host has and allows it, else epoll */
	WISP_ENGINE_IO_URING, /* without it, the sandbox does not start */
	WISP_ENGINE_EPOLL,    /* and threads for disks; the monitor can then not use io_uring at all */
};

enum wisp_net_kind {
	WISP_NET_TAP = 1, /* a tap device of the host: bridges, routes and filters are the host's */
	/*
	 * passt(1), which the library starts: the guest has the host's addresses, and what it sends goes through
	 * sockets of this user. passt ends with the sandbox. `ports` that name a TCP port of the host, and not 0, are
	 * passt's: its connections reach the guest's own address, and wisp_list_ports does not have them.
	 */
	WISP_NET_PASST = 2,
};

#define WISP_NET_MTU_MIN 68u
#define WISP_NET_MTU_MAX 65535u
#define WISP_NET_QUEUES_MAX 3

/*
 * The guest's network card, eth0. The guest sets it up before it is ready: from `address`, or by DHCP, for which it
 * waits a few seconds. IPv6 is configured from `address6`, or by the guest's kernel from router advertisements, for
 * which the guest does not wait. It requires a kernel with IPv6, such as "full". With `address6` and without `address`,
 * the guest has no IPv4.
 */
struct wisp_net {
	size_t size;
	enum wisp_net_kind kind;
	const char *tap; /* the name of an existing tap device, which this process may open; NULL: see `fd` */
	/*
	 * An open tap device instead, with IFF_NO_PI and IFF_VNET_HDR. The library duplicates it, and sets O_NONBLOCK
	 * and the size of its header, which all duplicates share. The caller does not read from it any more.
	 */
	const int *fd;
	const char *mac;     /* such as "02:00:00:00:00:01"; NULL: a random one */
	uint32_t mtu;        /* 0: the tap device's, or passt's, 65520; WISP_NET_MTU_MIN to WISP_NET_MTU_MAX */
	const char *address; /* IPv4, with the length of its prefix, such as "192.0.2.2/24"; NULL: by DHCP */
	const char *gateway; /* with address; NULL: no default route */
	const char *dns;     /* with address: for /etc/resolv.conf; NULL: that file stays as it is. With passt: instead
	                        of the host's name servers */
	struct wisp_rate rate;
	const char *program; /* with WISP_NET_PASST: used instead of /usr/bin/passt */
	/* With WISP_NET_TAP: the same three for IPv6. Without `address6`, the guest listens to routers. */
	const char *address6; /* with the length of its prefix, such as "2001:db8::2/64" */
	const char *gateway6; /* in the same network, or a link-local address (fe80::/10) */
	const char *dns6;
	/*
	 * With `tap`: the number of pairs of queues that the card has, so that the guest's processors do not wait for
	 * each other; at most WISP_NET_QUEUES_MAX. More than 1 requires a tap device that was made with
	 * IFF_MULTI_QUEUE. 0 means 1, with a tap device without this flag.
	 */
	uint32_t queues;
};

struct wisp_create_options {
	size_t size;
	/*
	 * The directory in which each running sandbox has a directory. Required. It is created if it is missing (mode
	 * 0700), and refused if other users may write to it. root may use the directory of another user: the monitor
	 * then runs as that user.
	 */
	const char *state_root;
	const char *name;    /* NULL: a random one */
	uint32_t cpus;       /* 0: 1; at most WISP_CPUS_MAX and the host's processors */
	uint32_t memory_mib; /* 0: WISP_MEMORY_MIB_DEFAULT; at most the host's memory */
	/*
	 * The root file system: a file with a squashfs, erofs or ext4 image, or a directory. A directory is packed with
	 * mksquashfs into cache_dir, and packed again only after something in it has changed. NULL: libdir's default
	 * image.
	 */
	const char *image;
	bool writable;       /* the guest writes to an ext4 image itself; else its changes end with the sandbox */
	const char *overlay; /* a disk file that keeps the changes to a read-only image; NULL: they stay in memory */
	const struct wisp_disk *disks; /* further disks, in the order of their names in the guest */
	size_t disk_count;
	size_t disk_size; /* with disks: sizeof(struct wisp_disk) */
	/* Defaults for the executions in this sandbox, each of which an execution's own option replaces. */
	const char *const *env; /* "NAME=value" strings, ended by NULL */
	const char *workdir;    /* an absolute path; NULL: "/" */
	const char *user;       /* as in wisp_exec_options; NULL: root */
	const char *shell;      /* an absolute path; NULL: "/bin/sh" */
	const char *hostname;   /* NULL: the sandbox's name */
	/* Where wisp's own files are. */
	const char *libdir; /* has wisp-vmm, wisp-fs, wisp-proxy, vmlinux-up, vmlinux-smp, perhaps vmlinux-full,
	                       initramfs.cpio and base.squashfs; NULL: where they were installed */
	const char *helper; /* used instead of libdir's wisp-vmm */
	/*
	 * Used instead of libdir's vmlinux-up (for one processor) or vmlinux-smp: a path; or "up", "smp" or "full", for
	 * libdir's kernel of this name. "full" has what containers need: IPv6, packet filters and so on.
	 */
	const char *kernel;
	const char *initramfs;   /* used instead of libdir's initramfs.cpio */
	const char *cache_dir;   /* for packed directories, expanded snapshots and those of warm starts; required if
	                            image is a directory, from a compressed snapshot, or warm set; created if missing */
	int64_t boot_timeout_ms; /* 0: WISP_BOOT_TIMEOUT_MS_DEFAULT */
	int64_t stop_grace_ms;   /* 0: WISP_STOP_GRACE_MS_DEFAULT; see wisp_stop_sandbox */
	/*
	 * Let the sandbox outlive the handle and this process. Without it, the sandbox is powered off as soon as the
	 * handle is closed or this process ends, in whatever way.
	 */
	bool detach;
	bool keep;    /* keep the sandbox's directory with its logs after its end, until wisp_remove_sandbox */
	bool console; /* write the kernel's messages to console.log from the first on; this slows the boot down */
	bool no_wait; /* return as soon as the monitor is started (a directory is packed before): then call
	                 wisp_wait_ready */
	const int *console_fd; /* with console: the monitor also writes the messages to this descriptor, without waiting
	                          for its reader: messages are dropped, and a line says so, while it is more than 256
	                          KiB behind; NULL: to none */
	const char *kernel_args; /* further parameters for the guest's kernel, separated by spaces; NULL: none */
	/*
	 * For measurements. The monitor notes when it reaches each stage of the sandbox's life. At the end it writes
	 * one JSON object a line: `stage`, `ns` (CLOCK_MONOTONIC), and KVM's counts of exits where they are known.
	 * Use it with `keep`, and read it with wisp_read_trace.
	 */
	bool trace;
	const char *const *breakpoints; /* with trace: "NAME=0xADDRESS" strings, ended by NULL: the monitor also notes
	                                   when the kernel first reaches each address */
	/*
	 * For measurements. Boots `kernel`, a program for the bare machine, without image, initramfs, agent and disks.
	 * Such a sandbox never becomes ready and takes no commands, so no_wait is required: wait for its end.
	 */
	bool bare;
	const struct wisp_cancel *cancel; /* ends this call, and later ones as wisp_set_cancel does; NULL: nothing */
	/*
	 * A snapshot file, from which the sandbox continues instead of booting. kernel, initramfs, kernel_args,
	 * writable, bare, console, breakpoints and reclaim must not be set. cpus and memory_mib are 0 or the
	 * snapshot's. env is added to the snapshot's; workdir, user, shell and stop_grace_ms replace the snapshot's if
	 * they are set. NULL: none. The guest has its own host name, random numbers and machine id before any of its
	 * programs goes on.
	 *
	 * Disks: image, overlay and disks, if they are set, say where the snapshot's image, overlay and further disks
	 * are now; these are as many, in the same order, and have the sizes that the guest knows. Other disks are
	 * opened by the path of the snapshot. A disk is refused if its size or modification time has changed. A disk
	 * that the guest writes to must be given anew, be copied (copy_disks), or come from a snapshot that stopped its
	 * sandbox, and then be unchanged since.
	 */
	const char *from;
	bool copy_disks;  /* with from: give the sandbox copies of the disks it writes to, which vanish with it */
	bool is_template; /* with from and detach: stay paused for ever, for wisp_fork_sandbox */
	const struct wisp_progress *progress; /* with from: of the expansion of a compressed snapshot; NULL: none */
	/*
	 * With from: read the saved memory before the guest runs, instead of mapping the file. The sandbox needs more
	 * memory of its own, takes longer to start, and then hardly waits for memory; it no longer needs the file.
	 */
	bool prefetch;
	/*
	 * Start from a snapshot of the booted machine that wisp_make_warm has left in cache_dir, which is required. The
	 * sandbox boots if there is none for exactly these files (monitor, kernel, initramfs, image), cpus, memory_mib,
	 * kernel_args and reclaim, or if the host cannot use it; one that is damaged or refused is deleted.
	 * wisp_is_warm tells which it was. A warm start is waited for, even with no_wait. It requires that the whole
	 * state of the machine is in its memory: from, writable, overlay, disks, console, breakpoints, bare, and an
	 * image on a block device are errors.
	 */
	bool warm;
	enum wisp_jail_mode jail; /* of the monitor; a clone is in the jail of its source */
	/*
	 * Copy the kernel's text, and the memory of a snapshot, instead of mapping the files: guests that share the
	 * pages of a file can time one another's use of them. Each sandbox needs this memory for itself, and takes
	 * longer to start.
	 */
	bool private_memory;
	/*
	 * Ports of the host that lead to the guest, as wisp_add_port adds them. The library listens before it starts
	 * the sandbox; connections are passed on once it is ready (with no_wait: in wisp_wait_ready). Not with bare and
	 * is_template. A clone of the sandbox has none.
	 */
	const struct wisp_port *ports;
	size_t port_count; /* at most WISP_PORTS_MAX */
	size_t port_size;  /* with ports: sizeof(struct wisp_port) */
	/*
	 * End the sandbox when it has lived for so long, from the start of its monitor on, or when no session has run
	 * in it for so long; 0: never. It is then shut down as wisp_stop_sandbox does with stop_grace_ms, and `end`
	 * says why. Both are enforced by the monitor, whoever is connected, and whether the sandbox is detached or not;
	 * time in which the host sleeps does not count. A pause counts as life, and not as idleness. A session is idle
	 * when its program has ended, and not when nobody is attached to it. Clones have the limits of their source,
	 * each from its own start on; a snapshot has none, so that set them anew with `from`. A template is never idle,
	 * but its clones may be. idle_timeout_ms is an error with bare.
	 */
	int64_t max_duration_ms;
	int64_t idle_timeout_ms;
	/*
	 * What the monitor and its guest may take of the host together, by a cgroup (v2) of the sandbox's own; 0: as
	 * much as this process. The host's kernel kills a monitor that needs more memory, so allow some more than
	 * memory_mib. WISP_ERR_SETUP if this process may not make cgroups: root may, and a process in a part of the
	 * tree that is delegated to its user (systemd-run --user --scope). Clones have the limits of their source,
	 * each in a cgroup of its own; a snapshot has none. The cgroup is removed with the sandbox, or, if the monitor
	 * itself removes the sandbox, by the next creation with limits. The processes beside the monitor (wisp-fs,
	 * wisp-proxy, passt) are not in it.
	 */
	uint32_t memory_max_mib;
	uint32_t cpu_max_milli; /* thousandths of a processor: 1500 is one and a half */
	uint32_t pids_max;      /* threads and processes of the monitor; at least cpus + 16 */
	/*
	 * Rates of devices that are not in `disks`. All that executions read and write passes through the vsock device.
	 * Clones have the rates of their source; a snapshot has none.
	 */
	struct wisp_rate image_rate, overlay_rate, vsock_rate, console_rate;
	/*
	 * Give memory that the guest has freed back to the host, about two seconds later, in blocks of 4 MiB. The
	 * guest's kernel must have virtio-balloon with free page reporting, as wisp's own has. The boot takes a little
	 * longer. With from, the snapshot decides.
	 */
	bool reclaim;
	/*
	 * What programs in the guest may reach on the network, by name: "HOST" or "HOST:PORT" strings, ended by NULL;
	 * NULL: nothing. HOST is a name, "*.NAME" (every name below NAME), "*" (every name), an address, or a network
	 * in CIDR notation; IPv6 with a port stands in brackets. PORT is a number or "*"; without it, the rule is for
	 * the ports 80 and 443. An address that is not on the internet (private, loopback, link-local, metadata and so
	 * on) must be named itself, by an address or a network, even where a name leads to it.
	 *
	 * Sessions find an HTTP proxy at 127.0.0.1:3128, as the variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and
	 * NO_PROXY say in both cases, and SOCKS 5 at 127.0.0.1:1080. A process of the host, libdir's wisp-proxy,
	 * decides, resolves and connects, and writes its decisions to net.log in the sandbox's directory. It starts
	 * when the sandbox is ready (with no_wait: in wisp_wait_ready), and ends with the monitor. At most 1024 rules.
	 * A clone has a proxy of its own, with the same rules; a snapshot has none, so that set them anew with `from`.
	 * Not with bare.
	 */
	const char *const *allow;
	/*
	 * "NAME=VALUE@HOST" or "NAME=VALUE@HOST:PORT" strings, ended by NULL: sessions have a variable NAME with a
	 * placeholder, which the proxy replaces by VALUE in the headers of plain HTTP to this host and port (80 without
	 * it), and nowhere else. HTTPS would need interception of TLS, which is not done: there, the host gets the
	 * placeholder. The value is only in the proxy's memory: clones do not have it. At most 32; allow must be set.
	 */
	const char *const *secrets;
	/*
	 * Folders of the host that the guest uses. Not with warm and bare. With from, give one for each folder that
	 * the snapshot's sandbox had, with the same `guest`, `read_only` and `owners`; `path` may be another, but for
	 * the root, and `cache` is chosen anew. Clones use the folders of their source.
	 */
	const struct wisp_folder *folders;
	size_t folder_count; /* at most WISP_FOLDERS_MAX */
	size_t folder_size;  /* with folders: sizeof(struct wisp_folder) */
	/*
	 * A network card; NULL: none. Not with bare and warm. With from, only if the snapshot's machine has one: give
	 * `tap` or `fd`, and `rate`; the guest keeps its MAC, MTU and addresses. A sandbox from a snapshot without
	 * this, and a clone, have the card of their source with its link down.
	 */
	const struct wisp_net *net;
	enum wisp_engine engine; /* of the monitor; a clone has that of its source */
};

/*
 * Boots a sandbox, waits until it accepts commands, and stores its handle in *sandbox. A failed call leaves no files
 * and no process behind, and stores NULL. Release with wisp_close_sandbox.
 */
WISP_API int wisp_create_sandbox(
        const struct wisp_create_options *options, struct wisp_sandbox **sandbox, struct wisp_error *error);

/*
 * Boots a sandbox of this configuration under a random name, saves it in cache_dir for wisp_create_options.warm as soon
 * as it is ready, and ends it. Options that concern a single sandbox (name, env, detach and so on) are ignored, and no
 * program of yours runs in it. Returns 0 without a boot if the snapshot is there, or if another process is making it.
 * The call takes a boot and the time to write the file: make it when nobody waits for it.
 */
WISP_API int wisp_make_warm(const struct wisp_create_options *options, struct wisp_error *error);

/*
 * Waits for the end of a boot that was started with no_wait. Returns 0 when the sandbox is ready, or -EAGAIN if it is
 * still booting after timeout_ms. After any other error the boot has failed: only wisp_close_sandbox is left to call.
 * Without no_wait, the call returns 0 at once.
 */
WISP_API int wisp_wait_ready(struct wisp_sandbox *sandbox, int64_t timeout_ms, struct wisp_error *error);

/*
 * Opens a running sandbox that this or another process created, and stores its handle in *sandbox. Closing this handle
 * never stops the sandbox. WISP_ERR_NO_SANDBOX if there is none of this name, WISP_ERR_NOT_RUNNING if it does not run.
 * Release with wisp_close_sandbox.
 */
WISP_API int wisp_open_sandbox(
        const char *state_root, const char *name, struct wisp_sandbox **sandbox, struct wisp_error *error);

/*
 * Releases the handle. If it created the sandbox without `detach`, the sandbox is powered off at once and has ended
 * when this returns; its programs get no chance to end (call wisp_stop_sandbox first to give them one). Sessions, stdin
 * writers and control handles stay valid, and are released on their own.
 */
WISP_API void wisp_close_sandbox(struct wisp_sandbox *sandbox);

/*
 * Sets what ends the calls that use this handle, and those on sessions that are started or opened through it later.
 * NULL: nothing, which is the default. wisp_close_sandbox cannot be cancelled. Do not call this while another thread
 * uses the handle.
 */
WISP_API int wisp_set_cancel(struct wisp_sandbox *sandbox, const struct wisp_cancel *cancel, struct wisp_error *error);

/* Return the sandbox's name and the absolute path of its directory. The strings are valid until the handle is closed.
 */
WISP_API const char *wisp_get_sandbox_name(const struct wisp_sandbox *sandbox);
WISP_API const char *wisp_get_sandbox_dir(const struct wisp_sandbox *sandbox);

/* Returns whether wisp_create_sandbox, which returned this handle, started it from the snapshot of its configuration.
 */
WISP_API bool wisp_is_warm(const struct wisp_sandbox *sandbox);

/*
 * Returns whether the guest writes to files of the host that outlive the sandbox: an image or disk that is not
 * read-only, or an overlay, but not a copy (copy_disks). What the guest has not flushed by the end of the sandbox is
 * missing in them, so end such a sandbox with wisp_stop_sandbox.
 */
WISP_API bool wisp_writes_disks(const struct wisp_sandbox *sandbox);

/*
 * Returns a descriptor that polls readable when wisp_wait_ready (after no_wait) or wisp_wait_sandbox has something to
 * return. It belongs to the handle: do not read from it or close it. -1 if there is none.
 */
WISP_API int wisp_get_sandbox_fd(const struct wisp_sandbox *sandbox);

/*
 * Shuts the sandbox down: the guest's programs get SIGTERM, its file systems are synced and unmounted, and the machine
 * powers off. If that takes longer than grace_ms, the sandbox is killed. A grace_ms of 0 is the sandbox's own
 * stop_grace_ms; a negative one is an error. Returns when the sandbox has ended; 0 if it had already. A call that is
 * cancelled leaves the shutdown under way. Call again to go on waiting: the guest is not told again, and the sandbox is
 * killed if it still runs after the new call's grace_ms.
 */
WISP_API int wisp_stop_sandbox(struct wisp_sandbox *sandbox, int64_t grace_ms, struct wisp_error *error);

/*
 * Asks the monitor to measure the disks again and to tell the guest of those whose size has changed: call it after a
 * disk's file has grown. When the call returns, the guest is told, but need not have acted on it; a size that cannot be
 * read is a warning in vmm.log alone. To know, run a command that reads /sys/block/vdX/size until it is the new one.
 * The guest uses the room as it likes (resize2fs, say).
 */
WISP_API int wisp_refresh_disks(struct wisp_sandbox *sandbox, struct wisp_error *error);

/* Ends the sandbox at once, as a power failure does. Returns when it has ended; 0 if it had already. */
WISP_API int wisp_kill_sandbox(struct wisp_sandbox *sandbox, struct wisp_error *error);

enum wisp_end {
	WISP_END_UNKNOWN = 0, /* the monitor died without saying why, or its record is gone */
	WISP_END_POWEROFF = 1,
	WISP_END_REBOOT = 2, /* the guest rebooted, which ends a sandbox */
	WISP_END_PANIC = 3,
	WISP_END_TRIPLE_FAULT = 4,
	WISP_END_BOOT_FAILED = 5,
	WISP_END_BOOT_TIMEOUT = 6,
	WISP_END_KILLED = 7,
	WISP_END_INTERNAL = 8,      /* the monitor failed */
	WISP_END_MAX_DURATION = 9,  /* max_duration_ms has passed */
	WISP_END_IDLE_TIMEOUT = 10, /* idle_timeout_ms has passed */
};

/* Returns a name such as "triple-fault", "unknown" for a number that is not one of these. The string is static. */
WISP_API const char *wisp_get_end_name(enum wisp_end end);

/* A word for a layer of the jail, such as "seccomp"; NULL for what is not a single layer. */
WISP_API const char *wisp_get_layer_name(enum wisp_jail_layer layer);

/*
 * Waits until the sandbox has ended, and stores the reason in *end. `end` may be NULL. -EAGAIN if it still runs after
 * timeout_ms.
 */
WISP_API int wisp_wait_sandbox(
        struct wisp_sandbox *sandbox, int64_t timeout_ms, enum wisp_end *end, struct wisp_error *error);

/*
 * Reads what the monitor of a sandbox created with `trace` and `keep` noted (see wisp_create_options), after the
 * sandbox has ended. Stores a NUL-terminated string in *text, and its length in bytes in *length, which may be NULL.
 * -EBUSY while the sandbox runs, -ENOENT if there is no such sandbox or it left no trace. Release with wisp_free_text.
 */
WISP_API int wisp_read_trace(
        const char *state_root, const char *name, char **text, size_t *length, struct wisp_error *error);
WISP_API void wisp_free_text(char *text);

/* Deletes what a sandbox left behind, its logs included. -EBUSY while it runs, -ENOENT if there is no such sandbox. */
WISP_API int wisp_remove_sandbox(const char *state_root, const char *name, struct wisp_error *error);

enum wisp_sandbox_state {
	WISP_SANDBOX_BOOTING = 1,
	WISP_SANDBOX_RUNNING = 2,
	WISP_SANDBOX_STOPPED = 3,  /* it has ended: `end` says how */
	WISP_SANDBOX_STALE = 4,    /* its monitor died without a record; the next sandbox of this name replaces it */
	WISP_SANDBOX_PAUSED = 5,   /* see wisp_pause_sandbox */
	WISP_SANDBOX_TEMPLATE = 6, /* paused for ever: see wisp_create_options.is_template */
};

/*
 * Stores the state of the handle's sandbox in *state, without waiting. A sandbox whose directory is gone is
 * WISP_SANDBOX_STOPPED. The handle stays that of one sandbox: another one that took over the name does not count.
 */
WISP_API int wisp_get_sandbox_state(
        struct wisp_sandbox *sandbox, enum wisp_sandbox_state *state, struct wisp_error *error);

/* The strings and `env` are valid as long as the structure. A string is never NULL. */
struct wisp_sandbox_info {
	const char *name;
	const char *dir; /* an absolute path */
	enum wisp_sandbox_state state;
	enum wisp_end end;    /* with STOPPED */
	const char *end_text; /* with STOPPED and STALE: why it ended, one line; "" if that is not known */
	int32_t pid;          /* of the monitor; 0 while it does not run */
	uint32_t cpus;
	uint32_t memory_mib;
	const char *image; /* an absolute path; "" is the default image */
	bool writable;
	bool detach;
	bool keep;
	int64_t created_ns; /* CLOCK_REALTIME */
	const char *workdir;
	const char *user; /* "" is root */
	const char *shell;
	const char *hostname;
	const char *const *env; /* ended by NULL */
	uint32_t jail_layers;   /* enum wisp_jail_layer: those that hold; 0 before it is ready, and once it has ended */
	int64_t max_duration_ms; /* 0: without limit, as the next */
	int64_t idle_timeout_ms;
	const char *const *allow;   /* as in wisp_create_options; ended by NULL */
	const char *const *secrets; /* "NAME@HOST" or "NAME@HOST:PORT"; ended by NULL */
	const char *net; /* "" without a network card; else what it is connected to, as wisp --net takes it */
	/* Its shared folders, the paths on the host made absolute; ended by NULL. */
	const struct wisp_folder *const *folders;
	enum wisp_engine engine; /* IO_URING or EPOLL; AUTO before it is ready, and once it has ended */
};

/*
 * Describes one sandbox, running or not, and stores the description in *info. -ENOENT if there is no such sandbox.
 * Release with wisp_free_sandbox_info.
 */
WISP_API int wisp_inspect_sandbox(
        const char *state_root, const char *name, struct wisp_sandbox_info **info, struct wisp_error *error);
WISP_API void wisp_free_sandbox_info(struct wisp_sandbox_info *info);

/*
 * Stores an array of all sandboxes of a state root in *list, sorted by name and ended by NULL, and returns their
 * number. A state root that does not exist has none. What is not a sandbox is ignored. Release with
 * wisp_free_sandbox_list.
 */
WISP_API int wisp_list_sandboxes(const char *state_root, struct wisp_sandbox_info ***list, struct wisp_error *error);
WISP_API void wisp_free_sandbox_list(struct wisp_sandbox_info **list);

/*
 * Deletes all stale sandboxes (WISP_SANDBOX_STALE), and the unfinished directories of processes that died while
 * creating or deleting one. With dry_run, deletes nothing. Returns the number of stale sandboxes, and stores an array
 * of them in *removed, sorted by name and ended by NULL. `removed` may be NULL. Release with wisp_free_sandbox_list.
 */
WISP_API int wisp_prune_sandboxes(
        const char *state_root, bool dry_run, struct wisp_sandbox_info ***removed, struct wisp_error *error);

/*
 * Deletes packed directories, expanded snapshots and those of warm starts from a cache_dir (see wisp_create_options),
 * those first that were not used for longest, until they take at most max_bytes on the disk, and returns their number.
 * Those that a running sandbox uses are kept, and those that were used in the last minute. Nothing needs to call this:
 * whenever something is added, the cache is held to 32 files, 8 GiB, and 30 days since the last use. A cache that does
 * not exist is empty.
 */
WISP_API int wisp_prune_cache(const char *cache_dir, uint64_t max_bytes, struct wisp_error *error);

/* ---- Statistics -------------------------------------------------------------------------------------------------- */

/* Memory of the host, in bytes. */
struct wisp_memory_stats {
	uint64_t resident;     /* in memory */
	uint64_t proportional; /* the same, but a page that n processes share counts as the nth part of a page (PSS) */
	uint64_t private_only; /* pages that no other process has: what the end of the sandbox gives back (USS) */
	uint64_t swapped;
};

/* What passed through a device since the start of the monitor. */
struct wisp_device_stats {
	const char *name; /* a disk's as in the guest ("vda"), "vsock", "console", "net", or "folder0" and so on */
	uint64_t bytes_to_guest;      /* what the guest reads or receives */
	uint64_t bytes_from_guest;    /* what it writes or sends */
	uint64_t operations_to_guest; /* requests of a disk, packets of the vsock device, buffers of the console,
	                                 frames of the network */
	uint64_t operations_from_guest;
	uint64_t operations_other; /* of a disk: flushes, discards and zeroes */
};

/* How often the guest's processors were interrupted for a reason, as KVM counts it. */
struct wisp_exit_stats {
	const char *kind; /* "io", "mmio", "halt", "irq" and so on */
	uint64_t count;
};

/* Everything is valid as long as the structure. Times are nanoseconds. */
struct wisp_stats {
	const char *name;
	enum wisp_sandbox_state state;
	int64_t uptime_ns;       /* since the start of the monitor, pauses included */
	uint64_t cpu_ns;         /* processor time of the monitor, its guest's included */
	uint64_t vcpus_ns;       /* of that, the threads of all virtual CPUs */
	uint64_t loop_ns;        /* of that, the thread that serves the devices */
	bool guest_ns_known;     /* this process may read /proc/PID/stat of the monitor */
	uint64_t guest_ns;       /* of vcpus_ns, the part that the guest itself ran; the host's kernel may sample it */
	uint32_t cpus;           /* 0: a template */
	const uint64_t *vcpu_ns; /* of each virtual CPU */
	uint64_t resident;       /* memory of monitor and guest, in bytes; 0: unknown */
	/*
	 * The same in detail. It is not known of a clone, whose monitor cannot read it, and with a monitor that got no
	 * access to /proc.
	 */
	bool memory_known;
	struct wisp_memory_stats guest_memory;   /* the guest's memory, as far as the host has to keep it */
	struct wisp_memory_stats monitor_memory; /* all else of the monitor */
	size_t device_count;
	const struct wisp_device_stats *devices;
	bool exits_known; /* KVM counts them since Linux 5.14 */
	uint64_t exits;   /* of all kinds, also those that are not listed */
	size_t exit_count;
	const struct wisp_exit_stats *exit_kinds;
	/*
	 * As the guest tells its monitor. `ended` and `failed` count from the start of the monitor; in a clone or a
	 * restored sandbox, programs that ran before run on.
	 */
	uint64_t sessions_running;
	uint64_t sessions_ended;
	uint64_t sessions_failed; /* programs that could not start */
};

/*
 * Stores what the sandbox and its monitor have used since their start in *stats: running, paused or a template. The
 * guest is not asked, and goes on. -ENOTCONN or another error if the sandbox ended. Release with wisp_free_stats.
 */
WISP_API int wisp_sandbox_stats(struct wisp_sandbox *sandbox, struct wisp_stats **stats, struct wisp_error *error);
WISP_API void wisp_free_stats(struct wisp_stats *stats);

/* ---- Snapshots and clones ---------------------------------------------------------------------------------------- */

/*
 * Stop a sandbox's machine, with all its programs, until it is resumed. A paused sandbox takes memory and no processor
 * time. 0 if it is paused (or runs) already. A template cannot be resumed.
 */
WISP_API int wisp_pause_sandbox(struct wisp_sandbox *sandbox, struct wisp_error *error);
WISP_API int wisp_resume_sandbox(struct wisp_sandbox *sandbox, struct wisp_error *error);

/*
 * Returns how long the guest was paused, in microseconds, by the last snapshot or fork that this handle made; 0 if
 * there was none, or if the sandbox was paused before.
 */
WISP_API int64_t wisp_get_pause_us(const struct wisp_sandbox *sandbox);

struct wisp_snapshot_options {
	size_t size;
	bool stop;     /* end the sandbox after it is saved; else it goes on */
	bool compress; /* with zstd; such a file is expanded into cache_dir before its first use */
	/*
	 * Copy the disks that the guest writes to, as they are at the moment of the snapshot, to FILE.disk0, FILE.disk1
	 * and so on. Without it, and without `stop`, a sandbox that writes to disks cannot be saved.
	 */
	bool copy_disks;
	bool replace;                         /* replace the file if it exists, and is a snapshot */
	const struct wisp_progress *progress; /* after the sandbox went on; NULL: none */
	const struct wisp_cancel *cancel;     /* NULL: the sandbox's */
};

/*
 * Saves a running or paused sandbox, its memory and its machine's state, in a file of mode 0600, from which
 * wisp_create_sandbox makes new sandboxes. The guest is paused while its memory is written. A failed or cancelled call
 * leaves no file, and the sandbox as it was. -EEXIST if `file` exists.
 *
 * The file has all that the sandbox has in its memory, secrets too. It works on hosts with the same kind of processor
 * and the same version of wisp.
 */
WISP_API int wisp_snapshot_sandbox(struct wisp_sandbox *sandbox, const char *file,
        const struct wisp_snapshot_options *options, struct wisp_error *error);

struct wisp_verify_options {
	size_t size;
	const struct wisp_progress *progress; /* NULL: none */
	const struct wisp_cancel *cancel;     /* NULL: nothing */
};

/* Reads a snapshot file whole, and compares each part with its checksum. WISP_ERR_SNAPSHOT if one differs. */
WISP_API int wisp_verify_snapshot(
        const char *file, const struct wisp_verify_options *options, struct wisp_error *error);

#define WISP_CLONES_MAX 1000u /* that one call makes */

struct wisp_fork_options {
	size_t size;
	/* The name of a single clone. Several are called NAME-1, NAME-2 and so on. NULL: random names. */
	const char *name;
	const char *const *names; /* instead of name: as many names as clones; NULL: see name */
	const char *hostname;     /* of each clone; NULL: its name */
	bool detach;              /* as in wisp_create_options */
	bool keep;                /* likewise */
	bool copy_disks;          /* give each clone copies of the disks it writes to; else a sandbox that writes to
	                             disks cannot be forked */
	const struct wisp_cancel *cancel; /* ends this call, and later ones on the clones; NULL: the sandbox's */
	bool trace;                       /* with keep: record when each stage of the start is reached */
	bool prefetch;      /* copy the source's memory for each clone before it runs, instead of page by page */
	const char *libdir; /* has wisp-fs and wisp-proxy, for the clones of a sandbox with folders or rules for the
	                       network; NULL: as in wisp_create_options */
};

/*
 * Makes `count` clones (1 to WISP_CLONES_MAX) of a running or paused sandbox or of a template, in the same state root,
 * and stores their handles in the array `clones`, which has room for them. A clone continues from where its source is,
 * with the source's options; it shares the source's memory until one of the two writes to it. It has its own host name,
 * random numbers and machine id before any of its programs goes on. The source is paused once, for all clones together,
 * and then goes on.
 *
 * Returns when all clones accept commands. A failed call makes no clone, and stores NULL for each. Release each handle
 * with wisp_close_sandbox.
 */
WISP_API int wisp_fork_sandbox(struct wisp_sandbox *sandbox, size_t count, const struct wisp_fork_options *options,
        struct wisp_sandbox **clones, struct wisp_error *error);

/* ---- Executions -------------------------------------------------------------------------------------------------- */

#define WISP_RLIMIT_INFINITY UINT64_MAX
#define WISP_OUTPUT_LIMIT_DEFAULT ((size_t)64 << 20)
#define WISP_OUTPUT_LIMIT_NONE SIZE_MAX
#define WISP_CLIENTS_MAX 128u /* connections that a sandbox serves at once; each session handle has one */

/*
 * A resource limit of setrlimit(2). Limits are set in the order given, before the user is changed. Unknown names, and a
 * soft limit above the hard one, are errors.
 */
struct wisp_rlimit {
	/*
	 * One of "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc",
	 * "rss", "rtprio", "rttime", "sigpending" and "stack".
	 */
	const char *resource;
	uint64_t soft; /* in setrlimit(2)'s units: seconds of "cpu", bytes of "as", and so on */
	uint64_t hard;
};

enum wisp_stdin_mode {
	WISP_STDIN_NULL = 0,  /* empty: the program reads the end of file at once (with tty: one ^D is typed) */
	WISP_STDIN_BYTES = 1, /* stdin_data, then the end of file */
	WISP_STDIN_PIPE = 2,  /* what the stdin writer sends: see wisp_take_stdin */
};

/* What a program may do inside the guest. */
enum wisp_security {
	WISP_SECURITY_DEFAULT = 0, /* everything that its user may do */
	/*
	 * No capabilities, even as root; no new privileges, so set-user-ID programs gain nothing; and no system calls
	 * that docker's default profile refuses, such as those that mount, trace, make namespaces or load code into the
	 * kernel. If neither the execution nor the sandbox has a user, the program gets a user and group of its own,
	 * which no other session has.
	 */
	WISP_SECURITY_RESTRICTED = 1,
};

/* The options of one execution. They do not change the sandbox's defaults. */
struct wisp_exec_options {
	size_t size;
	const char *cwd;        /* an absolute path; NULL: the sandbox's workdir */
	const char *const *env; /* "NAME=value" strings, ended by NULL: added to the sandbox's, and preferred */
	const char *user; /* "name", "uid", "name:group" or "uid:gid", looked up in the guest; NULL: the sandbox's */
	/*
	 * 0: no timeout. When it passes, the guest kills every process that the session has started with SIGKILL. If
	 * the guest hangs, the library stops waiting two seconds later, or two seconds after the last event.
	 */
	int64_t timeout_ms;
	const struct wisp_rlimit *rlimits;
	size_t rlimit_count;
	size_t rlimit_size; /* with rlimits: sizeof(struct wisp_rlimit) */
	/*
	 * Stdin, stdout and stderr are a pseudo-terminal, and all output arrives as stdout. TERM is "xterm-256color" if
	 * `env` does not set it. Without a tty, TERM is set by `env` alone.
	 */
	bool tty;
	uint16_t rows; /* of the terminal; 0: 24 */
	uint16_t cols; /* of the terminal; 0: 80 */
	enum wisp_stdin_mode stdin_mode;
	const void *stdin_data; /* with WISP_STDIN_BYTES */
	size_t stdin_length;
	/* How many bytes of stdout and stderr together wisp_exec, wisp_shell and wisp_collect_output collect at most.
	 */
	size_t output_limit;              /* 0: WISP_OUTPUT_LIMIT_DEFAULT */
	const struct wisp_cancel *cancel; /* ends calls on this session and its stdin writer; NULL: the sandbox's */
	enum wisp_security security;
};

/* Its size never changes: a later version may give a name to what is reserved, and fill it in. */
struct wisp_exit_status {
	int code;             /* -1 if a signal ended the program */
	int signal;           /* the guest's number of that signal; 0 if the program exited */
	bool success;         /* code is 0 */
	bool timed_out;       /* it was killed by its timeout */
	uint8_t reserved[22]; /* zero */
};

/* A collected execution. The data is valid as long as the structure. */
struct wisp_output {
	struct wisp_exit_status status; /* code is -1 and signal is 0 if the end was not seen */
	const uint8_t *stdout_data;     /* never NULL; followed by a NUL that stdout_length does not count */
	size_t stdout_length;
	const uint8_t *stderr_data;
	size_t stderr_length;
	uint64_t dropped; /* bytes that a client that only watched the session missed; else 0 */
};

/*
 * Runs a program, waits for its end and collects its output. `argv` ends with NULL. argv[0] is looked up in the PATH of
 * the execution's environment, and passed unchanged: no shell is involved. A program that exits with a non-zero code or
 * is killed by a signal is a result and not an error.
 *
 * Stores the result in *output on success, and also after an error once the program had started, with the output that
 * had arrived: if the timeout passed (-ETIMEDOUT), if the output exceeded output_limit (-EOVERFLOW; the program is
 * killed), or if the sandbox ended. Stores NULL after any other error. Release with wisp_free_output.
 */
WISP_API int wisp_exec(struct wisp_sandbox *sandbox, const char *const *argv, const struct wisp_exec_options *options,
        struct wisp_output **output, struct wisp_error *error);

/*
 * Runs `SHELL -c script args...` in the same way, with the sandbox's shell. `args` ends with NULL, or is NULL; args[0]
 * is the script's $0.
 */
WISP_API int wisp_shell(struct wisp_sandbox *sandbox, const char *script, const char *const *args,
        const struct wisp_exec_options *options, struct wisp_output **output, struct wisp_error *error);

WISP_API void wisp_free_output(struct wisp_output *output);

/*
 * Store stdout or stderr in *text as a NUL-terminated string, which is valid as long as the output. -EILSEQ if it is
 * not valid UTF-8.
 */
WISP_API int wisp_get_stdout_text(const struct wisp_output *output, const char **text, struct wisp_error *error);
WISP_API int wisp_get_stderr_text(const struct wisp_output *output, const char **text, struct wisp_error *error);

/* ---- Sessions ---------------------------------------------------------------------------------------------------- */

/*
 * Start a program as wisp_exec and wisp_shell do, without waiting for it, and store the session in *session. Its events
 * tell what happens. These calls return when the request has been sent, before the program has started: a program that
 * cannot start is an event too. Release with wisp_close_session.
 */
WISP_API int wisp_exec_stream(struct wisp_sandbox *sandbox, const char *const *argv,
        const struct wisp_exec_options *options, struct wisp_session **session, struct wisp_error *error);
WISP_API int wisp_shell_stream(struct wisp_sandbox *sandbox, const char *script, const char *const *args,
        const struct wisp_exec_options *options, struct wisp_session **session, struct wisp_error *error);

struct wisp_open_options {
	size_t size;
	bool live;  /* begin with the output from now on; else with what the guest has retained */
	bool write; /* be the session's writer: write its stdin, and have its output wait for this client. Refused while
	               the session has another writer. */
	size_t output_limit;              /* as in wisp_exec_options */
	const struct wisp_cancel *cancel; /* as in wisp_exec_options */
};

/*
 * Opens an existing session, running or ended, no matter who started it, and stores it in *session. A client that only
 * watches and falls behind loses output, and an event says how much. -ENOENT if there is no such session, -EBUSY if it
 * has another writer. Release with wisp_close_session.
 */
WISP_API int wisp_open_session(struct wisp_sandbox *sandbox, uint64_t id, const struct wisp_open_options *options,
        struct wisp_session **session, struct wisp_error *error);

/*
 * Releases the handle. The program is not killed: its session continues in the guest, is listed, and can be opened
 * again. Its stdin stays open; to send the end of file, close the stdin writer first. If the program has not started
 * yet, the call waits up to 1 second for that, unless it is cancelled.
 */
WISP_API void wisp_close_session(struct wisp_session *session);

enum wisp_event_type {
	WISP_EVENT_STARTED = 1,     /* has id and pid; the first event, unless FAILED is */
	WISP_EVENT_STDOUT = 2,      /* has data and length */
	WISP_EVENT_STDERR = 3,      /* has data and length; never with a tty */
	WISP_EVENT_DROPPED = 4,     /* `dropped` bytes of output were lost here */
	WISP_EVENT_STDIN_ERROR = 5, /* has errnum, errno_name and message: stdin is closed, the session continues */
	WISP_EVENT_EXITED = 6,      /* has status: the program has ended, and all its output was delivered */
	/*
	 * The program did not start. Has failure, stage, errnum, errno_name and message, and the id under which
	 * exec.log has this event: no session has that id.
	 */
	WISP_EVENT_FAILED = 7,
	WISP_EVENT_DONE = 8, /* the last event; every further call returns it again */
};

/* Fields that an event of this type does not have are zero. A string is never NULL. */
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
 * Stores the next event in *event. It is valid until the next call on this session. -EAGAIN if none arrives within
 * timeout_ms, -ETIMEDOUT if the guest hangs beyond the execution's timeout. After any other error the connection is
 * lost.
 */
WISP_API int wisp_recv_event(
        struct wisp_session *session, int64_t timeout_ms, const struct wisp_event **event, struct wisp_error *error);

/*
 * Returns a descriptor that polls readable when wisp_recv_event has something to return. It belongs to the session: do
 * not read from it or close it. -1 with errno set if no descriptor can be made.
 */
WISP_API int wisp_get_session_fd(struct wisp_session *session);

/*
 * Stores the session's id in *id. Ids are unique within a sandbox and never reused; lists and logs have the same. Waits
 * until the program has started. -ENOENT if it did not start: the event says why.
 */
WISP_API int wisp_get_session_id(struct wisp_session *session, uint64_t *id, struct wisp_error *error);
/* Stores the pid of the session's program, in the guest, in *pid. Waits and fails as wisp_get_session_id does. */
WISP_API int wisp_get_session_pid(struct wisp_session *session, uint32_t *pid, struct wisp_error *error);
/* Returns whether the session has a tty. */
WISP_API bool wisp_session_has_tty(struct wisp_session *session);

/*
 * Waits for the program's end, discards its output, and stores its status in *status, which may be NULL. A program that
 * did not start is WISP_ERR_EXEC_FAILED; one that its timeout killed is WISP_ERR_TIMEOUT, with *status set. Other
 * errors are those of wisp_recv_event.
 */
WISP_API int wisp_wait_session(struct wisp_session *session, struct wisp_exit_status *status, struct wisp_error *error);

/*
 * Waits for the program's end and collects the output that has not been received yet. *output and errors are those of
 * wisp_exec. Release with wisp_free_output.
 */
WISP_API int wisp_collect_output(struct wisp_session *session, struct wisp_output **output, struct wisp_error *error);

/*
 * Send a signal, by the guest's number, 1 to 64, or SIGKILL, to the process group of the session's program. Signals
 * never wait behind stdin. Those sent before the program has started reach it afterwards. -ESRCH if it has ended.
 */
WISP_API int wisp_signal_session(struct wisp_session *session, int signal, struct wisp_error *error);
WISP_API int wisp_kill_session(struct wisp_session *session, struct wisp_error *error);
/* Sets the size of the session's terminal, in characters, at least 1 by 1. */
WISP_API int wisp_resize_session(struct wisp_session *session, uint16_t rows, uint16_t cols, struct wisp_error *error);

/*
 * Stores a control handle for other threads in *control. Several threads may use it at the same time, also while the
 * session waits in another. It may outlive the session's handle; its calls then return -ENOTCONN. A session may have
 * any number of them. Release with wisp_close_control.
 */
WISP_API int wisp_open_control(struct wisp_session *session, struct wisp_control **control, struct wisp_error *error);
WISP_API void wisp_close_control(struct wisp_control *control);
/* Returns the session's id, or 0 before the program has started. */
WISP_API uint64_t wisp_get_control_id(const struct wisp_control *control);
/* The same as wisp_signal_session, wisp_kill_session and wisp_resize_session. */
WISP_API int wisp_signal_control(struct wisp_control *control, int signal, struct wisp_error *error);
WISP_API int wisp_kill_control(struct wisp_control *control, struct wisp_error *error);
WISP_API int wisp_resize_control(struct wisp_control *control, uint16_t rows, uint16_t cols, struct wisp_error *error);

/*
 * Returns the writer of the session's stdin. It exists once if the session was started with WISP_STDIN_PIPE, or opened
 * with `write` while its stdin was open. Returns NULL otherwise, when it was taken before, or when the host is out of
 * memory. The writer may outlive the session's handle; writes then return -ENOTCONN. Release with wisp_close_stdin.
 */
WISP_API struct wisp_stdin *wisp_take_stdin(struct wisp_session *session);

/*
 * Sends up to `length` bytes and returns how many were sent: fewer only if timeout_ms passed, -EAGAIN if it passed
 * before the first. The call waits while the program does not read; no host memory grows meanwhile. A program may read
 * only as fast as its output is received: a single thread that writes much and also receives uses a timeout_ms of 0,
 * and polls. -EPIPE if the program has closed its stdin or ended.
 */
WISP_API ptrdiff_t wisp_write_stdin(
        struct wisp_stdin *writer, const void *data, size_t length, int64_t timeout_ms, struct wisp_error *error);

/*
 * Returns a descriptor that polls readable while a write would send something or fail. Its state changes only while the
 * session's events are received or a write waits. It belongs to the writer: do not read from it or close it.
 */
WISP_API int wisp_get_stdin_fd(struct wisp_stdin *writer);

/* Sends the end of file (with a tty: types ^D) and releases the writer. */
WISP_API void wisp_close_stdin(struct wisp_stdin *writer);

/* `argv` is valid as long as the structure. */
struct wisp_session_info {
	uint64_t id;
	uint32_t pid; /* in the guest */
	bool tty;
	bool stdin_open; /* its stdin is a pipe that is still open */
	bool has_writer; /* a client is its writer */
	bool exited;     /* the program has ended, and status is set */
	struct wisp_exit_status status;
	int64_t started_ns;      /* the guest's CLOCK_REALTIME */
	uint32_t clients;        /* connected to it now */
	const char *const *argv; /* ended by NULL; long ones are truncated */
};

/*
 * Stores an array of a sandbox's sessions in *list, sorted by id and ended by NULL, and returns their number. A session
 * that has ended is listed as long as the guest retains its output. Release with wisp_free_session_list.
 */
WISP_API int wisp_list_sessions(
        struct wisp_sandbox *sandbox, struct wisp_session_info ***list, struct wisp_error *error);
WISP_API void wisp_free_session_list(struct wisp_session_info **list);

/*
 * Connects to the guest's agent, waits for its answer, and stores the time that this took in *round_trip_ns, in
 * nanoseconds. `round_trip_ns` may be NULL. Nothing is started in the guest.
 */
WISP_API int wisp_ping_sandbox(struct wisp_sandbox *sandbox, int64_t *round_trip_ns, struct wisp_error *error);

/* ---- Ports ------------------------------------------------------------------------------------------------------- */

/*
 * Programs in the guest and on the host reach each other over vsock (vsock(7)): streams of bytes, addressed by a
 * number of 32 bits, 1024 being the agent's. The descriptors that these calls return are stream sockets of the caller,
 * who closes them. They block and are close-on-exec.
 */

/*
 * Connects to a port on which a program in the guest listens, and stores the connected socket in *fd. Waits up to
 * timeout_ms for the guest to accept, and at most 10 seconds (also if timeout_ms is negative). -ECONNREFUSED if nothing
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

/*
 * Lets TCP clients of the host reach a server in the guest that listens on `guest_port`, on 127.0.0.1 or ::1, without
 * any network between the two. `host` is where the host listens: "PORT", "ADDRESS:PORT" or "[IPV6]:PORT", where no
 * address is 127.0.0.1 and port 0 is one that is free; or the path of a Unix socket, which has a '/' and is created
 * with mode 0600.
 *
 * Whoever reaches that address reaches the server. Its connections end as the server's do: with the end of the stream,
 * or with a reset if it is not there or breaks off. While the sandbox is paused, they wait.
 *
 * Returns the host's port, or 0 for a Unix socket. -EADDRINUSE if something else listens there, -EACCES if the caller
 * may not.
 */
WISP_API int wisp_add_port(
        struct wisp_sandbox *sandbox, const char *host, uint16_t guest_port, struct wisp_error *error);

/* Stops listening there. What is connected goes on. -ENOENT if the sandbox does not listen on `host`. */
WISP_API int wisp_remove_port(struct wisp_sandbox *sandbox, const char *host, struct wisp_error *error);

/* `host` is valid as long as the structure, and never NULL. */
struct wisp_port_info {
	const char *host; /* "127.0.0.1:8080", "[::1]:8080" or a path */
	uint16_t guest_port;
};

/*
 * Stores an array of the ports that lead to the guest in *list, in the order in which they were added and ended by
 * NULL, and returns their number. Release with wisp_free_port_list.
 */
WISP_API int wisp_list_ports(struct wisp_sandbox *sandbox, struct wisp_port_info ***list, struct wisp_error *error);
WISP_API void wisp_free_port_list(struct wisp_port_info **list);

/* ---- Terminals --------------------------------------------------------------------------------------------------- */

struct wisp_attach_options {
	size_t size;
	int input_fd;         /* a terminal; 0, the default, is stdin */
	const int *output_fd; /* the same terminal; NULL: input_fd */
	/*
	 * The keys that detach, separated by commas. A key is a character, or "ctrl-" and one of a-z [ \ ] ^ _ @. NULL:
	 * "ctrl-]". Keys that turn out not to be the whole sequence are sent to the program.
	 */
	const char *detach_keys;
	/*
	 * The caller's descriptors; NULL: none. The library installs no signal handlers. It reads and discards what
	 * resize_fd has, and then updates the session's size and sets raw mode again: for instance a signalfd(2) of
	 * SIGWINCH and SIGCONT. It stops when cancel_fd becomes readable, and does not read from it.
	 */
	const int *resize_fd;
	const int *cancel_fd;
};

/*
 * Connects a terminal to a session that has a tty, until the program ends or the terminal detaches. The terminal is in
 * raw mode meanwhile, and is always restored before the call returns. Unless the program has ended, that includes what
 * it switched on: the alternate screen, reports of the mouse, a hidden cursor and the like. A line "[123 bytes of
 * output were lost here]" marks lost output. If another client is the session's writer, only the keys that detach have
 * an effect. The call uses up the session's stdin writer and its events.
 *
 * Returns 0 if the program has ended, with *status set; 1 if the terminal detached, by its keys or because it hung up.
 * -ECANCELED if cancel_fd became readable, -ETIMEDOUT if the execution's timeout passed. The program continues after
 * detaching and cancelling. `status` may be NULL.
 */
WISP_API int wisp_attach_session(struct wisp_session *session, const struct wisp_attach_options *options,
        struct wisp_exit_status *status, struct wisp_error *error);

/*
 * Starts a program on a new terminal of the size of the caller's, and connects the two in the same way. Stores the
 * session's id in *id; `id` may be NULL. The call itself sets options->tty, rows, cols and stdin_mode. A NULL argv runs
 * the sandbox's shell.
 */
WISP_API int wisp_attach(struct wisp_sandbox *sandbox, const char *const *argv, const struct wisp_exec_options *options,
        const struct wisp_attach_options *attach, uint64_t *id, struct wisp_exit_status *status,
        struct wisp_error *error);

/* ---- Logs -------------------------------------------------------------------------------------------------------- */

enum wisp_log_source {
	WISP_LOG_STDOUT = 1u << 0,
	WISP_LOG_STDERR = 1u << 1,
	WISP_LOG_EVENTS = 1u << 2, /* the streams "started", "exited", "failed" and "dropped" */
};

struct wisp_logs_options {
	size_t size;
	unsigned sources;                 /* bitwise OR of enum wisp_log_source; 0: all */
	uint64_t session;                 /* a session's id; 0: all */
	int64_t since_ns;                 /* only records from this time on, in CLOCK_REALTIME; 0: all */
	uint64_t tail;                    /* only the last `tail` records that match; 0: all */
	bool follow;                      /* wait for more at the end, until the sandbox has ended */
	const struct wisp_cancel *cancel; /* ends wisp_recv_log; NULL: nothing */
};

/* `data` and the strings are valid as long as the record. */
struct wisp_log_record {
	int64_t time_ns; /* when the guest read the output or saw the event, in CLOCK_REALTIME */
	uint64_t session;
	const char *stream;  /* "stdout", "stderr", "started", "exited", "failed", "dropped" */
	const uint8_t *data; /* the bytes that the program wrote, or a description of the event */
	size_t length;
	const char *line; /* the record's line in exec.log: one JSON object, without the newline */
};

/*
 * Opens the log of all executions in a sandbox, running or not, and stores it in *logs. -ENOENT if there is no such
 * sandbox. Release with wisp_close_logs.
 */
WISP_API int wisp_open_logs(const char *state_root, const char *name, const struct wisp_logs_options *options,
        struct wisp_logs **logs, struct wisp_error *error);

/*
 * Stores the next record in *record and returns 1, or returns 0 at the end of the log. The record is valid until the
 * next call on these logs. -EAGAIN if `follow` is set and none arrives within timeout_ms. Lines that are not records
 * are skipped.
 */
WISP_API int wisp_recv_log(
        struct wisp_logs *logs, int64_t timeout_ms, const struct wisp_log_record **record, struct wisp_error *error);

/*
 * Returns a descriptor that polls readable when wisp_recv_log may have something to return, or -1 without `follow`. It
 * belongs to the logs: do not read from it or close it.
 */
WISP_API int wisp_get_logs_fd(const struct wisp_logs *logs);

WISP_API void wisp_close_logs(struct wisp_logs *logs);

#ifdef __cplusplus
}
#endif

#endif
