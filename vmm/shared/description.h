/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The description of one sandbox: what the library decided, and all that the monitor knows. The library sends it as one
 * message over the monitor's socket, together with descriptors for every file that the sandbox uses, so the monitor
 * opens nothing by path outside the sandbox's directory.
 *
 * The message is the structure itself: both sides run on one host and are installed together. Its head states the
 * version and the size, and a receiver refuses any other. Increase DESCRIPTION_VERSION with every change of the layout.
 */
#ifndef WISP_DESCRIPTION_H
#define WISP_DESCRIPTION_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/shared/snapshot.h"
#include "wisp.h"

#define DESCRIPTION_VERSION 2u

/* The monitor finds its end of the socket here. The description comes in on it; lines about the state go out. */
#define DESCRIPTION_SOCKET_FD 3

#define DESCRIPTION_DISKS_MAX (WISP_DISKS_MAX + 2) /* the image and the overlay too */
#define DESCRIPTION_FOLDERS_MAX WISP_FOLDERS_MAX
#define DESCRIPTION_FOLDER_PATH_MAX 256u
#define DESCRIPTION_BREAKPOINTS_MAX 8u
#define DESCRIPTION_BREAKPOINT_NAME_MAX 24u /* bytes, with the NUL, here and below */
#define DESCRIPTION_HOSTNAME_MAX 64u
#define DESCRIPTION_KERNEL_ARGS_MAX 2048u /* Linux's COMMAND_LINE_SIZE on x86 */
#define DESCRIPTION_FILE_NAME_MAX 256u
#define DESCRIPTION_BOOT_TIMEOUT_MS_MAX (24u * 3600u * 1000u)
#define DESCRIPTION_MEMORY_MIB_MAX (1u << 20)
#define DESCRIPTION_NET_QUEUES_MAX WISP_NET_QUEUES_MAX
#define DESCRIPTION_LIFETIME_MS_MAX (1ull << 42) /* more than a hundred years; in nanoseconds, it fits 64 bits */

enum description_flags {
	DESCRIPTION_DETACH = 1 << 0,    /* the sandbox outlives its owner once it is ready */
	DESCRIPTION_EPHEMERAL = 1 << 1, /* the monitor removes the directory at the end */
	DESCRIPTION_CONSOLE = 1 << 2,   /* the kernel logs to a serial port, from its first message on */
	DESCRIPTION_TRACE = 1 << 3,     /* note when each stage is reached */
	DESCRIPTION_INITRAMFS = 1 << 4, /* a descriptor for an initramfs is there */
	DESCRIPTION_IMAGE = 1 << 5,     /* disk[0] is the root file system */
	DESCRIPTION_OVERLAY = 1 << 6,   /* disk[1] takes the changes to it */
	DESCRIPTION_BARE = 1 << 7,      /* a payload without an agent: no disks, no vsock, never ready */
	DESCRIPTION_ECHO = 1 << 8,      /* copy the console to standard error */
	DESCRIPTION_RESTORE = 1 << 9,   /* from a snapshot, of which a descriptor is there; no kernel, no initramfs */
	DESCRIPTION_FORK = 1 << 10,     /* for the child of a running monitor, which has the memory and the state */
	DESCRIPTION_TEMPLATE = 1 << 11, /* restored, and never run: to be forked */
	DESCRIPTION_PREFETCH = 1 << 12, /* restored or forked with memory of its own, before the guest runs */
	DESCRIPTION_NO_JAIL = 1 << 13,  /* the monitor keeps all rights of its user */
	DESCRIPTION_REQUIRE_JAIL = 1 << 14, /* do not run without all layers of the jail */
	DESCRIPTION_CGROUP = 1 << 15,       /* a descriptor for the cgroup that it enters is there */
	DESCRIPTION_PRIVATE = 1 << 16,      /* copy the kernel and the snapshot: share no page of a file */
	DESCRIPTION_RECLAIM = 1 << 17,      /* a balloon device, for memory that the guest has freed */
	DESCRIPTION_FLAGS_ALL = (1 << 18) - 1,
};

struct description_disk {
	uint32_t read_only; /* 0 or 1 */
	uint32_t cache;     /* enum wisp_cache; with WISP_CACHE_DIRECT the descriptor was opened with O_DIRECT */
	struct wisp_rate rate;
};

enum description_net_port {
	DESCRIPTION_NET_NONE, /* no network device; all else is zero */
	DESCRIPTION_NET_DOWN, /* of a restored machine or a clone, with nothing connected: no descriptor */
	DESCRIPTION_NET_TAP,  /* a tap device with IFF_VNET_HDR and headers of 12 bytes */
	DESCRIPTION_NET_STREAM,
};

/*
 * Addresses are in network byte order; 0: none. A guest with a static address of IPv6 alone has none of IPv4. A
 * restored machine keeps all but the port and the rate.
 */
struct description_net {
	uint32_t port; /* enum description_net_port */
	uint16_t mtu;
	uint8_t mac[6];
	uint32_t prefix; /* bits, of `address`, which is static; without one, the guest asks by DHCP */
	uint32_t address, gateway, dns;
	uint32_t prefix6; /* bits, of `address6`, which is static; without one, the guest listens to routers */
	uint32_t queues;  /* of a tap device, each with a descriptor; 1 of others */
	struct wisp_rate rate;
	struct in6_addr address6, gateway6, dns6;
};

struct description_breakpoint {
	char name[DESCRIPTION_BREAKPOINT_NAME_MAX];
	uint64_t addr; /* virtual address of an instruction in the kernel */
};

struct description_folder {
	uint32_t read_only;                     /* 0 or 1, as the next */
	uint32_t is_file;                       /* a regular file, in a folder of its own: fs_wire.h */
	char path[DESCRIPTION_FOLDER_PATH_MAX]; /* absolute, in the guest; "/": the root, only the first folder may be
	                                           it */
};

/* Everything but the descriptors. Strings are NUL-terminated. Unused elements of arrays are zero. */
struct description {
	char magic[8];
	uint32_t version; /* DESCRIPTION_VERSION */
	uint32_t size;    /* of this structure, bytes */
	uint32_t flags;   /* enum description_flags */
	uint32_t cpus;
	uint32_t memory_mib;
	uint32_t boot_timeout_ms; /* 0: none */
	uint32_t disk_count;
	uint32_t breakpoint_count;
	uint64_t started_ns;           /* CLOCK_MONOTONIC: when the library began to start the monitor */
	struct snapshot_layout layout; /* with DESCRIPTION_RESTORE: where the snapshot's parts are */
	struct description_disk disk[DESCRIPTION_DISKS_MAX];
	struct description_breakpoint breakpoint[DESCRIPTION_BREAKPOINTS_MAX];
	char name[WISP_NAME_MAX + 1]; /* of the sandbox, and of its directory in the state directory */
	char hostname[DESCRIPTION_HOSTNAME_MAX];
	char kernel_args[DESCRIPTION_KERNEL_ARGS_MAX];
	/* For messages only. */
	char kernel_name[DESCRIPTION_FILE_NAME_MAX];
	char initramfs_name[DESCRIPTION_FILE_NAME_MAX];
	uint64_t max_duration_ms; /* how long the sandbox may live; 0: without limit */
	uint64_t idle_timeout_ms; /* how long it may live while no session runs; 0: without limit */
	struct wisp_rate vsock_rate, console_rate;
	uint32_t stop_grace_ms; /* how long the guest may take to power off when a limit has passed */
	uint32_t folder_count;
	struct description_folder folder[DESCRIPTION_FOLDERS_MAX];
	struct description_net net;
	uint32_t engine; /* enum wisp_engine; a clone has its source's */
};

/* Of a folder: the monitor's ends of wisp-fs's socket and pipes. */
enum { DESCRIPTION_FOLDER_SOCKET, DESCRIPTION_FOLDER_REQUESTS, DESCRIPTION_FOLDER_REPLIES, DESCRIPTION_FOLDER_FDS };

/* The descriptors that come with it; -1 for one that is not there. */
struct description_fds {
	int root;      /* the state directory */
	int dir;       /* the sandbox's directory */
	int lock;      /* the file `lock` in it, locked */
	int kernel;    /* a vmlinux; neither with DESCRIPTION_RESTORE nor with DESCRIPTION_FORK */
	int initramfs; /* with DESCRIPTION_INITRAMFS */
	int snapshot;  /* with DESCRIPTION_RESTORE; open for reading */
	int cgroup;    /* with DESCRIPTION_CGROUP: a cgroup.procs, open for writing */
	int disk[DESCRIPTION_DISKS_MAX];
	int folder[DESCRIPTION_FOLDERS_MAX][DESCRIPTION_FOLDER_FDS];
	int net[DESCRIPTION_NET_QUEUES_MAX]; /* what the network device is connected to, if anything */
};

#define DESCRIPTION_FDS_MAX \
	(7 + DESCRIPTION_NET_QUEUES_MAX + DESCRIPTION_DISKS_MAX + DESCRIPTION_FOLDERS_MAX * DESCRIPTION_FOLDER_FDS)

/* All zero but the head: version and size. */
void description_init(struct description *description);

/* No descriptors. */
void description_init_fds(struct description_fds *fds);

/* Closes those that are there. */
void description_close_fds(struct description_fds *fds);

/*
 * Checks every field, whoever filled it in. 0, or -EPROTO for another version, -EINVAL else; `why` then says what is
 * wrong, in one line of at most `size` bytes.
 */
int description_check(const struct description *description, char *why, size_t size);

/* Copies `length` received bytes into `description` and checks it, as description_check does. */
int description_decode(const void *bytes, size_t length, struct description *description, char *why, size_t size);

/*
 * Sends both over a connected Unix stream socket with nothing sent before. The descriptors stay the caller's. 0 or
 * -errno.
 */
int description_send(int socket, const struct description *description, const struct description_fds *fds);

/*
 * Receives both; blocks until the message is whole. The descriptors are close-on-exec and become the caller's, on
 * failure too (description_close_fds). 0, or -errno with `why` as above: -ECONNRESET when the sender went away.
 */
int description_receive(
        int socket, struct description *description, struct description_fds *fds, char *why, size_t size);

/* Copies a string into a field of `size` bytes: 0, or -E2BIG, and then the field is cut. */
int description_set(char *field, size_t size, const char *text);

#endif
