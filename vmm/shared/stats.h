/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a monitor counts of its sandbox. It follows the struct manage_reply of MANAGE_STATS (manage.h), whose version
 * covers it. All counts are since the monitor's start.
 */
#ifndef WISP_SHARED_STATS_H
#define WISP_SHARED_STATS_H

#include <stdint.h>

#include "wisp.h"

#define STATS_DEVICES_MAX 22u
#define STATS_DEVICE_NAME_MAX 16u /* bytes, with the NUL */

/* The reasons for which vCPUs leave the guest; the names are KVM's, without "_exits". */
enum stats_exit {
	STATS_EXITS_ALL, /* of all reasons, also of those that have no counter here */
	STATS_EXITS_IO,
	STATS_EXITS_MMIO,
	STATS_EXITS_HALT,
	STATS_EXITS_IRQ,
	STATS_EXITS_IRQ_WINDOW,
	STATS_EXITS_NMI_WINDOW,
	STATS_EXITS_SIGNAL,
	STATS_EXIT_KINDS,
};

/* NULL for STATS_EXITS_ALL. */
static inline const char *stats_exit_name(unsigned kind)
{
	static const char *const names[STATS_EXIT_KINDS] = {[STATS_EXITS_IO] = "io",
	        [STATS_EXITS_MMIO] = "mmio",
	        [STATS_EXITS_HALT] = "halt",
	        [STATS_EXITS_IRQ] = "irq",
	        [STATS_EXITS_IRQ_WINDOW] = "irq_window",
	        [STATS_EXITS_NMI_WINDOW] = "nmi_window",
	        [STATS_EXITS_SIGNAL] = "signal"};
	return kind < STATS_EXIT_KINDS ? names[kind] : NULL;
}

enum stats_flags {
	STATS_MEMORY = 1 << 0, /* `guest` and `monitor` are known */
	STATS_FLAGS_ALL = (1 << 1) - 1,
};

/* Bytes. */
struct stats_memory {
	uint64_t resident;
	uint64_t proportional; /* a page that n processes share counts 1/n */
	uint64_t private;      /* pages that no other process has */
	uint64_t swapped;
};

struct stats_device {
	char name[STATS_DEVICE_NAME_MAX]; /* "vda" and so on as the guest calls it, "vsock", "console", "folder0" and so
	                                     on */
	uint64_t bytes_to_guest, bytes_from_guest;
	uint64_t operations_to_guest, operations_from_guest;
	uint64_t operations_other; /* a disk's flushes, discards and zeroes */
};

struct stats {
	uint32_t size;  /* of this structure */
	uint32_t flags; /* enum stats_flags */
	uint32_t cpus;  /* 0: a template */
	uint32_t device_count;
	uint64_t uptime_ns;
	uint64_t cpu_ns;  /* processor time of all threads */
	uint64_t loop_ns; /* of the event loop alone */
	uint64_t vcpu_ns[WISP_CPUS_MAX];
	uint64_t sessions_running, sessions_ended, sessions_failed;
	uint32_t exits_known; /* bit `kind`: this KVM counts it */
	uint32_t zero;
	uint64_t exits[STATS_EXIT_KINDS]; /* of all vCPUs */
	struct stats_memory guest, monitor;
	struct stats_device device[STATS_DEVICES_MAX];
};

#endif
