/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/bus.h"

#include <errno.h>
#include <string.h>

int bus_add(struct bus *bus, uint64_t start, uint64_t size, bus_handler *handle, void *context)
{
	if (bus->count == BUS_RANGES_MAX)
		return -ENOSPC;
	bus->range[bus->count++] =
	        (struct bus_range){.start = start, .size = size, .handle = handle, .context = context};
	return 0;
}

void bus_access(const struct bus *bus, uint64_t addr, void *data, unsigned len, bool is_write)
{
	for (unsigned i = 0; i < bus->count; i++) {
		const struct bus_range *r = &bus->range[i];
		uint64_t offset = addr - r->start;
		if (offset < r->size && len <= r->size - offset) {
			r->handle(r->context, offset, data, len, is_write);
			return;
		}
	}
	if (!is_write)
		memset(data, 0xff, len);
}
