/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract between a virtio device, its transport and the machine.
 *
 * A device is a constant record (struct virtio_type) and an object that begins with struct virtio_dev. A kick arrives
 * on an eventfd, an interrupt leaves on an eventfd, memory is gmem: nothing here knows KVM. The machine binds irq_fd to
 * an interrupt line (irqfd, edge) and each kick_fd to writes of that queue's index to QueueNotify (ioeventfd).
 *
 * Threads. The loop's thread owns queues and everything asynchronous. vCPU threads reach a device only through its
 * transport, which passes activation and reset to the loop and waits. Both share the atomics `status`,
 * `interrupt_status` and `config_generation`, and whatever config_read and config_write access.
 *
 * Life: created; activated by DRIVER_OK; reset, which completes when nothing is in flight, so that nothing writes guest
 * memory afterwards; activated again, as often as the driver likes; destroyed. Instead of being activated, a new device
 * may get the state of another (state.h).
 */
#ifndef WISP_VIRTIO_DEVICE_H
#define WISP_VIRTIO_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/bucket.h"
#include "virtio/queue.h"
#include "vmm/monitor/err.h"
#include "vmm/monitor/gmem.h"
#include "vmm/monitor/log.h"
#include "vmm/monitor/loop.h"

/* The maximum number of queues of a device; a block device can have that many. */
#define VIRTIO_QUEUES_MAX 8

struct virtio_dev;
struct virtio_state;

/* What the machine provides to every device. All of it outlives the device. */
struct virtio_env {
	const struct gmem *gmem;
	struct loop *loop;
	const struct log *log;
};

struct virtio_type {
	const char *name;
	uint32_t id; /* section 5, VIRTIO_ID_* */
	uint16_t queue_size_max;
	uint32_t config_size; /* bytes */
	uint64_t multiqueue;  /* without this feature, a driver has only the first queues; 0: it always has all */
	unsigned first_queues;

	/* Loop's thread. The queues run, dev->negotiated is final, a kick of every queue follows. May be NULL. */
	void (*activate)(struct virtio_dev *dev);

	/* Loop's thread, active devices only: there may be something in `queue`. Spurious calls happen. */
	void (*kick)(struct virtio_dev *dev, unsigned queue);

	/*
	 * Loop's thread: stop, start to cancel what is in flight, and call virtio_reset_done, now or later, when
	 * nothing is. No kick follows, and the driver sees no further completions.
	 */
	void (*reset)(struct virtio_dev *dev);

	/*
	 * A vCPU's thread, one at a time, at any point of the device's life. offset + len is inside config_size; len is
	 * 1, 2, 4 or 8. If config_write is NULL, the driver's writes are ignored.
	 */
	void (*config_read)(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len);
	void (*config_write)(struct virtio_dev *dev, uint32_t offset, const void *data, unsigned len);

	/*
	 * For snapshots (state.h); loop's thread; each may be NULL. `save` adds the device's part to a state that has
	 * the rest; `restore` checks that part and takes it into a new device whose queues do not run yet: 0, or -errno
	 * with `err`.
	 */
	void (*save)(const struct virtio_dev *dev, struct virtio_state *state);
	int (*restore)(struct virtio_dev *dev, const struct virtio_state *state, struct err *err);

	/* Both or neither: what has no room in that state (virtio_save_more). */
	int (*save_more)(struct virtio_dev *dev, void **data, size_t *size, struct err *err);
	int (*restore_more)(struct virtio_dev *dev, const void *data, size_t size, struct err *err);

	/* Loop's thread, after a reset: frees the object and what it owns. Takes a half-built object. */
	void (*destroy)(struct virtio_dev *dev);
};

struct virtio_queue {
	struct virtq vq;
	struct virtio_dev *dev;
	int kick_fd;    /* eventfd */
	bool armed;     /* a read of kick_fd is in flight */
	bool pushed;    /* completions wait for the end of the round */
	unsigned quiet; /* descriptors of completions whose interrupt waits longer: virtio_complete_quietly */
	bool awaited;   /* the driver has put its interrupt off: it gets that as soon as it is due */
	bool again;     /* to be kicked at the end of the round */
	unsigned budget;
	uint64_t kick_count;
	struct loop_op kick_op;
};

/* What passed in one direction since the device was created. */
struct virtio_count {
	uint64_t bytes;
	uint64_t operations; /* a disk's requests, a socket's packets, a console's buffers */
};

/* Zero: unlimited. The rates may be set until the device is activated: limit.h. */
struct virtio_limit {
	struct bucket bytes, operations;
	unsigned waiting; /* queues, a bit each */
	unsigned first;   /* of those that waited the last time, the one that came first */
	bool armed;       /* the timer is in flight */
	struct loop_op op;
	struct __kernel_timespec time;
};

struct virtio_dev {
	const struct virtio_type *type;
	struct virtio_env env;
	unsigned queue_count; /* 1 .. VIRTIO_QUEUES_MAX; fixed once created */
	uint64_t features;    /* offered; fixed once created */
	uint64_t negotiated;  /* meaningful from FEATURES_OK on */
	int irq_fd;           /* eventfd: the device signals, the machine forwards */

	uint32_t status;            /* atomic: VIRTIO_CONFIG_S_* */
	uint32_t interrupt_status;  /* atomic: VIRTIO_MMIO_INT_* */
	uint32_t config_generation; /* atomic */
	uint32_t faults;            /* atomic, for log_once */

	/* The rest belongs to the loop's thread. */
	struct virtio_count to_guest, from_guest;
	uint64_t other_operations; /* that move no data of the guest: flushes, discards */
	struct virtio_limit limit;
	unsigned in_flight;           /* the device's count of operations that access guest memory or a disk */
	bool active;                  /* it serves its queues */
	bool started;                 /* activated since the last reset; it may have failed since */
	bool destroying;              /* kicks have no effect */
	struct loop_call *reset_call; /* waits for the end of the reset */
	bool ending_round;            /* round_task runs */
	bool raised, asked;           /* virtio_show raised an interrupt in this round; another is due at its end */
	struct loop_task round_task;
	struct loop_op quiet_op; /* the timeout after which quiet completions may interrupt */
	bool quiet_armed;
	struct __kernel_timespec quiet_delay;
	struct virtio_queue queue[VIRTIO_QUEUES_MAX];
};

/* For a device: whether `bit` (VIRTIO_F_*, or the device's own) was negotiated. */
static inline bool virtio_has(const struct virtio_dev *dev, unsigned bit)
{
	return dev->negotiated >> bit & 1;
}

/* For a device: counts one operation of `bytes`. */
static inline void virtio_count(struct virtio_count *count, uint64_t bytes)
{
	count->bytes += bytes;
	count->operations++;
}

/* For a transport, under its lock: how many queues a driver with these features has. */
static inline unsigned virtio_queues(const struct virtio_dev *dev, uint64_t negotiated)
{
	bool all = !(dev->type->multiqueue & ~negotiated) || dev->queue_count < dev->type->first_queues;
	return all ? dev->queue_count : dev->type->first_queues;
}

/*
 * For a device's create function: fills in the embedded part of a zeroed object and creates the eventfds. Kicks of a
 * queue take effect once the driver has started it. `features` are the device's own; those of the ring and VERSION_1
 * are added. Loop's thread; the loop need not be open. 0 or -errno with `err`.
 */
int virtio_init(struct virtio_dev *dev, const struct virtio_type *type, const struct virtio_env *env,
        unsigned queue_count, uint64_t features, struct err *err);

/*
 * Resets the device, runs rounds of the loop until nothing is in flight, closes, and frees. Takes NULL. Loop's thread,
 * but not inside a completion; no vCPU runs, and the machine has released the eventfds.
 */
void virtio_destroy(struct virtio_dev *dev);

/* For a device: the requested reset is complete. The driver's write of the status returns then. */
void virtio_reset_done(struct virtio_dev *dev);

/*
 * For a device: completes a chain of `queue`. The driver sees it at virtio_show or at the end of the loop's round, with
 * at most one interrupt for all. Does nothing if the device is not active.
 */
void virtio_complete(struct virtio_dev *dev, unsigned queue, uint16_t head, uint32_t written);

/*
 * The same for a chain whose completion is not urgent, because the driver only frees it. The driver sees it as soon,
 * but its interrupt comes with the next ordinary completion of the device, when a quarter of the queue waits, or after
 * VIRTIO_QUIET_MS: one for many chains, and none for those that the driver has found by itself in the meantime. A
 * driver that puts its interrupt off has several chains under way and may be waiting for it, so it is obeyed: for its
 * queue this is virtio_complete until it has been interrupted. The chain is as `virtio_fetch` returned it.
 */
#define VIRTIO_QUIET_MS 10
void virtio_complete_quietly(struct virtio_dev *dev, unsigned queue, const struct virtq_chain *chain);

/*
 * For a device with much work left, right after a completion: shows the driver what is complete, so that it can start
 * on that. The first call of a round may interrupt at once; the others share an interrupt at its end.
 */
void virtio_show(struct virtio_dev *dev);

/*
 * For a device: the driver broke a rule. Logged once; the device serves nothing until the driver resets it (section
 * 2.1.2). Operations in flight continue, and their results are dropped.
 */
void virtio_fail(struct virtio_dev *dev, const char *why);

/*
 * For a device's kick: do { while (virtio_fetch(...)) serve; } while (virtio_more(...)). virtio_fetch is virtq_fetch,
 * except that a broken ring fails the device and returns false. virtio_more turns notifications on, and returns true if
 * chains arrived in the meantime. A kick serves at most as many chains as the queue is long; the next round kicks again
 * for the rest, so that a driver that adds chains as fast as the device serves them cannot monopolize the loop.
 */
bool virtio_fetch(struct virtio_dev *dev, unsigned queue, struct virtq_chain *chain);
bool virtio_more(struct virtio_dev *dev, unsigned queue);

/* Returns the chain fetched last. May be repeated, in reverse order, before any of the chains is completed. */
void virtio_unfetch(struct virtio_dev *dev, unsigned queue, uint16_t head);

/*
 * For a device that has a reason of its own to look at a queue: kicks it at the end of the loop's round, or of the next
 * one if called from such a kick.
 */
void virtio_kick_again(struct virtio_dev *dev, unsigned queue);

/* For limit.h: kicks a queue at once, if it runs. */
void virtio_kick(struct virtio_queue *q);

/* For a device, after a change of its config space: tells the driver. Loop's thread. */
void virtio_config_changed(struct virtio_dev *dev);

/*
 * For a transport. Both wait for the loop's thread, and return false if the loop has ended. A reset clears queues,
 * features and interrupts, but not the status, which is the transport's. Any thread.
 */
bool virtio_activate(struct virtio_dev *dev);
bool virtio_reset(struct virtio_dev *dev);

/* For state.h: shows the driver all completions, quiet ones too, and interrupts if it wants that. Loop's thread. */
void virtio_show_all(struct virtio_dev *dev);

/*
 * After virtio_restore: serves kicks from now on, looks at every queue, and raises the interrupt again if its cause is
 * not acknowledged. Loop's thread; the loop is open, and the machine has bound the eventfds. The vCPUs may run.
 */
void virtio_resume(struct virtio_dev *dev);

/* Raises the interrupt again if the driver has not acknowledged its cause. Any thread. */
void virtio_interrupt_again(struct virtio_dev *dev);

/* For a transport: sets DEVICE_NEEDS_RESET and notifies the driver. Any thread. */
void virtio_needs_reset(struct virtio_dev *dev, const char *why);

#endif
