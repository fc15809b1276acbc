/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps address ranges to handlers, for memory-mapped and port I/O. Filled in while the machine is built and read-only
 * once vCPUs run, so it needs no lock. Unclaimed addresses read as all ones and ignore writes, as on a real bus.
 */
#ifndef WISP_MONITOR_BUS_H
#define WISP_MONITOR_BUS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * One access, on a vCPU thread. `offset` is relative to the range's start, and offset + len is inside the range; `data`
 * holds `len` (1, 2, 4 or 8) bytes, little-endian.
 */
typedef void bus_handler(void *context, uint64_t offset, void *data, unsigned len, bool is_write);

struct bus_range {
	uint64_t start;
	uint64_t size;
	bus_handler *handle;
	void *context; /* the owner's; outlives the bus */
};

#define BUS_RANGES_MAX 40

struct bus {
	struct bus_range range[BUS_RANGES_MAX];
	unsigned count;
};

/* Claims a range. 0, or -ENOSPC. The ranges of a bus must not overlap; the machine's memory map ensures that. */
int bus_add(struct bus *bus, uint64_t start, uint64_t size, bus_handler *handle, void *context);

void bus_access(const struct bus *bus, uint64_t addr, void *data, unsigned len, bool is_write);

#endif
