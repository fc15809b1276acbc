/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The composition root: builds a machine of memory, KVM, vCPUs and devices from a description, runs it, takes it apart.
 *
 * Two threads share the start. The VM, its interrupt controllers and its vCPUs are created on the first vCPU's thread,
 * while the loop's thread creates the devices and loads the kernel. While the guest takes its first steps, the loop's
 * thread sets up what the guest does not need yet.
 */
#ifndef WISP_MONITOR_MACHINE_H
#define WISP_MONITOR_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/device.h"
#include "vmm/monitor/err.h"
#include "vmm/monitor/log.h"
#include "vmm/monitor/loop.h"
#include "vmm/monitor/snapshot.h"
#include "vmm/monitor/trace.h"
#include "vmm/shared/description.h"
#include "vmm/shared/stats.h"

struct jail;

struct machine_options {
	const struct description *description; /* checked; needed for machine_create only */
	struct description_fds *fds; /* machine_create takes the disks' and the network's, and sets them to -1; the
	                                others stay the caller's */
	/*
	 * NULL: boots. Otherwise goes on where this was saved. machine_create takes the memory, and machine_run frees
	 * the state when the guest goes on.
	 */
	struct snapshot_origin *origin;
	const char *vsock_path; /* the socket for connections to the guest; NULL: no vsock device */
	/* Gets what the guest prints; called on the loop's and on vCPU threads, possibly at once; must not block. */
	void (*console)(void *context, const void *data, size_t len);
	/*
	 * Called by machine_run on the loop's thread when the guest has begun and the loop has its engine: starts what
	 * else the loop serves. May be NULL. 0, or -errno with `err`, which ends machine_run.
	 */
	int (*begun)(void *context, struct err *err);
	/* The machine ended by itself; on any thread, once. Must not call machine_destroy. */
	void (*ended)(void *context, enum wisp_end end, const char *text);
	void *context;
	const struct log *log;
	struct trace *trace;     /* NULL: not traced; outlives the machine */
	const struct jail *jail; /* entered; NULL: none, and as many descriptors as it wants. machine_create reads it */
	struct loop *loop; /* without an engine yet (loop_create), which is the description's; outlives the machine */
};

struct machine;

/* Builds the machine, with the guest's software in its memory. 0 or -errno with `err`; then nothing is left of it. */
int machine_create(struct machine **machine, const struct machine_options *options, struct err *err);

/*
 * Starts the vCPUs and runs the loop until loop_stop, which `ended` or anything else may call. Once. 0, or -errno with
 * `err`. The thread that calls it is the loop's.
 */
int machine_run(struct machine *machine, struct err *err);

/*
 * Takes every vCPU out of the guest and waits until nothing of a device is in flight; then the machine can be saved,
 * and its process forked. Runs rounds of the loop: on the loop's thread, but not inside a completion. 0, or -errno with
 * `err`: -ESHUTDOWN if the machine has ended by itself; then it need not be resumed.
 */
int machine_pause(struct machine *machine, struct err *err);
void machine_resume(struct machine *machine);

/* As snapshot_save. The machine is paused, and nothing has run on the loop since. */
int machine_save(struct machine *machine, struct snapshot_origin *origin, struct err *err);

/* Tells the guest of disks whose size has changed. What fails is logged. The loop's thread. Takes NULL. */
void machine_refresh_disks(struct machine *machine);

/* The device for connections between host and guest, or NULL. The machine's. */
struct virtio_dev *machine_vsock(struct machine *machine);

/* Adds what the vCPUs and devices have counted. The loop's thread, while machine_run runs or after it. */
void machine_count(struct machine *machine, struct stats *stats);

/* The guest's memory, as long as the machine. */
const struct gmem *machine_memory(const struct machine *machine);

/* Writes where the first vCPU is, for a message. Any thread, between machine_create and machine_destroy; one at a time.
 */
void machine_describe(struct machine *machine, char *to, size_t size);

/* Stops whatever runs, at once, and releases everything; after a failure too. Takes NULL. The loop's thread. */
void machine_destroy(struct machine *machine);

#endif
