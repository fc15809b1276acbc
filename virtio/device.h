/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract between a virtio device, its transport and the machine.
 *
 * A device is a constant record (struct virtio_type) and an object that begins with struct virtio_dev. A kick arrives
 * as an eventfd, an interrupt leaves as an eventfd, memory is gmem: nothing here knows KVM. The machine binds irq_fd to
 * an interrupt line (irqfd, edge) and each kick_fd to writes of that queue's index to QueueNotify (ioeventfd).
 *
 * Threads. The loop's thread owns queues and everything asynchronous. vCPU threads reach a device through its
 * transport only, which hands activation and reset over to the loop and waits. Shared between both are the atomics
 * `status`, `interrupt_status` and `config_generation`, and whatever config_read and config_write touch.
 *
 * Life: created; activated by DRIVER_OK; reset, which ends when nothing is in flight any more, so that from then on
 * nothing writes guest memory; activated again, as often as the driver likes; destroyed.
 */
#ifndef WISP_VIRTIO_DEVICE_H
#define WISP_VIRTIO_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/queue.h"
#include "vmm/monitor/err.h"
#include "vmm/monitor/gmem.h"
#include "vmm/monitor/log.h"
#include "vmm/monitor/loop.h"

/* Queues a device: what a block device has at most. */
#define VIRTIO_QUEUES_MAX 8

struct virtio_dev;

/* What every device gets of the machine. All of it outlives the device. */
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
	uint64_t multiqueue;  /* the feature without which a driver has queue 0 alone; 0: it has all of them */

	/* Loop's thread. The queues run; dev->negotiated is final. A kick of every queue follows. May be NULL. */
	void (*activate)(struct virtio_dev *dev);

	/* Loop's thread, active devices only: there may be something in `queue`. Also comes without any reason. */
	void (*kick)(struct virtio_dev *dev, unsigned queue);

	/*
	 * Loop's thread: stop, begin to cancel what is in flight, and call virtio_reset_done, now or later, once
	 * nothing is. No kick comes from here on, and what is completed is not shown to the driver any more.
	 */
	void (*reset)(struct virtio_dev *dev);

	/*
	 * A vCPU's thread, one at a time, at any moment of the device's life; offset + len is inside config_size, len
	 * is 1, 2, 4 or 8. config_write NULL: the driver's writes are ignored.
	 */
	void (*config_read)(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len);
	void (*config_write)(struct virtio_dev *dev, uint32_t offset, const void *data, unsigned len);

	/* Loop's thread, reset before: frees the object and what it owns. Takes half-built ones. */
	void (*destroy)(struct virtio_dev *dev);
};

struct virtio_queue {
	struct virtq vq;
	struct virtio_dev *dev;
	int kick_fd;    /* eventfd */
	bool armed;     /* a read of kick_fd is in flight */
	bool pushed;    /* completions wait for the end of the round */
	unsigned quiet; /* descriptors of those that wait longer: virtio_complete_quietly */
	bool again;     /* the budget ran out: kicked once more in the next round */
	unsigned budget;
	uint64_t kick_count;
	struct loop_op kick_op;
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

	/* the loop's thread's */
	bool active;                  /* it serves its queues */
	bool started;                 /* activated since the last reset; failed perhaps */
	bool destroying;              /* kicks are not listened for any more */
	struct loop_call *reset_call; /* who waits for the end of the reset */
	bool ending_round;            /* round_task runs */
	bool raised, asked; /* in this round virtio_show raised an interrupt; and is to raise one more at its end */
	struct loop_task round_task;
	struct loop_op quiet_op; /* a timeout: when quiet completions are shown at the latest */
	bool quiet_armed;
	struct __kernel_timespec quiet_delay;
	struct virtio_queue queue[VIRTIO_QUEUES_MAX];
};

/* For a device's functions: whether `bit` (a VIRTIO_F_* or the device's own) was negotiated. */
static inline bool virtio_has(const struct virtio_dev *dev, unsigned bit)
{
	return dev->negotiated >> bit & 1;
}

/* The queues that the driver has, as far as the negotiation has come. For a transport, under its lock. */
static inline unsigned virtio_queues(const struct virtio_dev *dev)
{
	return dev->type->multiqueue & ~dev->negotiated ? 1 : dev->queue_count;
}

/*
 * For a device's create: fills in the embedded part of a zeroed object, makes the eventfds. Kicks of a queue are
 * listened for from when the driver first starts it. `features` are the device's own; those of the ring and VERSION_1
 * are added. Loop's thread; the loop need not be open. 0 or -errno with `err`.
 */
int virtio_init(struct virtio_dev *dev, const struct virtio_type *type, const struct virtio_env *env,
        unsigned queue_count, uint64_t features, struct err *err);

/*
 * Resets the device, waits until nothing is in flight (rounds of the loop run meanwhile), closes, frees. Takes NULL.
 * Loop's thread, not from inside a completion; no vCPU runs any more, and the machine let go of the eventfds.
 */
void virtio_destroy(struct virtio_dev *dev);

/* For a device: everything of a reset that was asked for is over. Ends in the driver's status write returning. */
void virtio_reset_done(struct virtio_dev *dev);

/*
 * For a device: completes a chain of `queue`. The driver sees it, with at most one interrupt for all, at the end of
 * the loop's round, or at virtio_show. Does nothing for a device that is not active.
 */
void virtio_complete(struct virtio_dev *dev, unsigned queue, uint16_t head, uint32_t written);

/*
 * The same of a chain that the driver only gets back, so that it is in no hurry to see it: shown together with the next
 * other completion of the device, or when a quarter of the queue waits, or after VIRTIO_QUIET_MS. Saves the driver an
 * interrupt a chain. The chain is as `virtio_fetch` gave it.
 */
#define VIRTIO_QUIET_MS 10
void virtio_complete_quietly(struct virtio_dev *dev, unsigned queue, const struct virtq_chain *chain);

/*
 * For a device in the middle of much work, right after a completion: the driver sees now what was completed, and begins
 * with that. Its first interrupt of a round is at once, for all others there is one in the end.
 */
void virtio_show(struct virtio_dev *dev);

/*
 * For a device: the driver broke a rule. Logged once; nothing is served until the driver resets the device (section
 * 2.1.2). What is in flight goes on and is forgotten.
 */
void virtio_fail(struct virtio_dev *dev, const char *why);

/*
 * For a device's kick: do { while (virtio_fetch(...)) serve; } while (virtio_more(...)). Fetch is virtq_fetch, but a
 * broken ring fails the device and means false. More turns notifications on, and is true when chains came meanwhile.
 * A kick serves a queue's length of chains at most; what is left is for another kick in the next round, so that no
 * driver that adds as fast as the device serves has the loop for itself.
 */
bool virtio_fetch(struct virtio_dev *dev, unsigned queue, struct virtq_chain *chain);
bool virtio_more(struct virtio_dev *dev, unsigned queue);

/* Gives back the chain that virtio_fetch took last; so several, the last one first, and before any is completed. */
void virtio_unfetch(struct virtio_dev *dev, unsigned queue, uint16_t head);

/*
 * For a device that has a reason of its own to look at a queue: kicks it at the end of the loop's round, or, called
 * from such a kick, of the next one.
 */
void virtio_kick_again(struct virtio_dev *dev, unsigned queue);

/* For a device: its config space changed, already. Loop's thread. */
void virtio_config_changed(struct virtio_dev *dev);

/*
 * For a transport. Both wait for the loop's thread, and are called from any. False: the loop has ended. Reset leaves
 * queues, features and interrupts cleared; the status is the transport's.
 */
bool virtio_activate(struct virtio_dev *dev);
bool virtio_reset(struct virtio_dev *dev);

/* Any thread: raises the interrupt once more if the driver has not acknowledged what it was for. */
void virtio_interrupt_again(struct virtio_dev *dev);

/* For a transport: DEVICE_NEEDS_RESET, and its notification. Any thread. */
void virtio_needs_reset(struct virtio_dev *dev, const char *why);

#endif
