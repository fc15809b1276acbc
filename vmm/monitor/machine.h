/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The composition root: builds a machine of memory, KVM, vCPUs and devices, in the right order, runs it, takes it
 * apart.
 *
 * Half of a start is KVM's, and needs nothing of the other half but memory: the VM, its interrupt controllers and its
 * vCPUs are created on the first vCPU's thread, while the loop's thread makes the devices and loads the kernel.
 */
#ifndef WISP_MONITOR_MACHINE_H
#define WISP_MONITOR_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/blk.h"
#include "vmm/monitor/err.h"
#include "vmm/monitor/log.h"
#include "vmm/monitor/loop.h"
#include "vmm/monitor/trace.h"

#define MACHINE_DISKS_MAX 8u
#define MACHINE_MEMORY_MIN_MIB 32u

enum machine_end {
	MACHINE_POWEROFF, /* in order */
	MACHINE_REBOOT,   /* the guest asked for a reset */
	MACHINE_PANIC,    /* its kernel panicked */
	MACHINE_TRIPLE_FAULT,
	MACHINE_BOOT_FAILED, /* the agent could not set the guest up; the console says why */
	MACHINE_ERROR,       /* KVM or the host failed; the text says how */
};

struct machine_disk {
	int fd; /* raw sectors, opened as `cache` wants it; the machine owns it from machine_build on, whether that
	           succeeds or not */
	bool readonly;
	enum blk_cache cache;
	char serial[21]; /* "" for none */
};

struct machine_options {
	unsigned cpus;
	uint64_t memory_mib;
	const char *kernel_path;
	const char *initramfs_path; /* NULL: none */
	const char *kernel_args;    /* more kernel parameters; may be "" */
	const char *agent_args;     /* what the kernel hands to PID 1; may be "" */
	const char *vsock_path;     /* NULL: no vsock device */
	bool serial;                /* a 16550 with the early kernel messages */
	size_t disk_count;
	struct machine_disk disk[MACHINE_DISKS_MAX]; /* vda, vdb, ... */
	/* What the guest prints; called from the loop's and from vCPU threads, possibly at once; must not block. */
	void (*console)(void *context, const void *data, size_t len);
	/* The machine ended by itself; on any thread, once. machine_destroy follows in due course, not from inside. */
	void (*ended)(void *context, enum machine_end end, const char *text);
	void *context;
	const struct log *log;
	struct trace *trace; /* NULL: not traced; outlives the machine */
	struct loop *loop;   /* outlives the machine; its thread calls all that follows; open for machine_serve */
};

struct machine;

/*
 * Begins: guest memory, and KVM on a thread of its own. Of the options only cpus, memory, trace, `ended` and `context`
 * need to be filled in by now. 0 or -errno with `err` set.
 */
int machine_create(struct machine **machine, const struct machine_options *options, struct err *err);

/* The devices, and the guest's software in its memory. Neither options nor strings are kept. 0 or -errno with `err`. */
int machine_build(struct machine *machine, const struct machine_options *options, struct err *err);

/* Lets the first vCPU run, as soon as KVM's half is done. What it asks of the loop waits for loop_run. */
void machine_start(struct machine *machine);

/* The rest, beside the first vCPU: sockets listen, the others run. 0, or -errno with `err`, KVM's half's as well. */
int machine_serve(struct machine *machine, struct err *err);

/* Stops at once whatever runs, releases everything, removes the sockets. After any of these failed, too. Takes NULL. */
void machine_destroy(struct machine *machine);

#endif
